/**
 * `keyturn completion`: scripts by which shells complete commands and options.
 *
 * Owns the three forms. They are made from the commands as they are declared, so they cannot be behind; nothing is run
 * while somebody types.
 */
import { Argument, type Command, type Option } from "commander";
import { DONE, type Shell } from "../shell.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

const HELP = `
  bash   keyturn completion bash > ~/.local/share/bash-completion/completions/keyturn
  zsh    keyturn completion zsh > a folder of your $fpath, as _keyturn
  fish   keyturn completion fish > ~/.config/fish/completions/keyturn.fish`;

export function addCompletion(program: Command, shell: Shell): void {
  program
    .command("completion")
    .summary("print a script that completes commands in your shell")
    .description("Prints a script by which a shell completes commands and options.")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .addHelpText("after", HELP)
    .action((name: (typeof SHELLS)[number]) => {
      const places = placesOf(program);
      const scripts = { bash, zsh, fish };
      shell.stdout.write(scripts[name](places));
      shell.exit(DONE);
    });
}

/** What may stand behind some words. */
interface Place {
  /** "", "send", "dead list" */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly text: string }[];
  readonly options: readonly Choice[];
  /** Values of an argument. */
  readonly values: readonly string[];
}

interface Choice {
  readonly flags: readonly string[];
  readonly text: string;
  /** What follows it. */
  readonly takes: "nothing" | "file" | "word" | readonly string[];
}

function placesOf(command: Command, path = ""): Place[] {
  const commands = command.commands.map((one) => ({
    name: one.name(),
    text: one.summary() || one.description(),
  }));
  // Of one that stands for others, the options of the one that runs without a word.
  const options = command.options.filter(({ hidden }) => !hidden).map(choiceOf);
  options.push({ flags: ["-h", "--help"], text: "print this", takes: "nothing" });
  const values = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  const own = { path, commands, options, values };
  return [
    own,
    ...command.commands.flatMap((one) => placesOf(one, path === "" ? one.name() : `${path} ${one.name()}`)),
  ];
}

function choiceOf({ short, long, description, argChoices, required, optional, flags }: Option): Choice {
  const names = [short, long].filter((name) => name !== undefined);
  if (!required && !optional) return { flags: names, text: description, takes: "nothing" };
  if (argChoices !== undefined) return { flags: names, text: description, takes: argChoices };
  return { flags: names, text: description, takes: /<(file|folder|module)>/.test(flags) ? "file" : "word" };
}

function flagsOf({ options }: Place): string[] {
  return options.flatMap(({ flags }) => flags);
}

/** Lines that find out, from the words before the cursor, at which place they end. */
function pathCases(places: readonly Place[]): string {
  return places
    .filter(({ path }) => path !== "")
    .map(({ path }) => `"${path}"`)
    .join("|");
}

/** What is completed behind an option that takes something. */
function optionCases(places: readonly Place[], act: (takes: Choice["takes"]) => string): string {
  const lines: string[] = [];
  for (const { path, options } of places)
    for (const { flags, takes } of options)
      if (takes !== "nothing")
        lines.push(`    ${flags.map((flag) => `"${path} ${flag}"`).join("|")}) ${act(takes)} ;;`);
  return lines.join("\n");
}

function bash(places: readonly Place[]): string {
  const after = optionCases(places, (takes) => {
    if (takes === "file") return 'COMPREPLY=($(compgen -f -- "$cur")); return';
    return takes === "word"
      ? "return"
      : `COMPREPLY=($(compgen -W "${(takes as string[]).join(" ")}" -- "$cur")); return`;
  });
  const words = places
    .map((place) => {
      const all = [...place.commands.map(({ name }) => name), ...place.values, ...flagsOf(place)];
      return `    "${place.path}") words="${all.join(" ")}" ;;`;
    })
    .join("\n");
  return `# Completion of keyturn for bash.
_keyturn() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
    ${pathCases(places)}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path $prev" in
${after}
  esac
  case "$path" in
${words}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _keyturn keyturn
`;
}

function zsh(places: readonly Place[]): string {
  const after = optionCases(places, (takes) => {
    if (takes === "file") return "_files; return";
    return takes === "word" ? "return" : `compadd -- ${(takes as string[]).join(" ")}; return`;
  });
  const item = (name: string, text: string): string => `'${zshText(name)}:${zshText(text)}'`;
  const words = places
    .map((place) => {
      const commands = [
        ...place.commands.map(({ name, text }) => item(name, text)),
        ...place.values.map((value) => item(value, "")),
      ];
      const options = place.options.flatMap(({ flags, text }) => flags.map((flag) => item(flag, text)));
      return `    "${place.path}")\n      commands=(${commands.join(" ")})\n      options=(${options.join(" ")}) ;;`;
    })
    .join("\n");
  return `#compdef keyturn
# Completion of keyturn for zsh.
_keyturn() {
  local prev="\${words[CURRENT-1]}" at="" word
  local -a commands options
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "\${at:+$at }$word" in
    ${pathCases(places)}) at="\${at:+$at }$word" ;;
    esac
  done
  case "$at $prev" in
${after}
  esac
  case "$at" in
${words}
  esac
  if [[ "\${words[CURRENT]}" == -* ]]; then
    _describe -o option options
  elif (( \${#commands} > 0 )); then
    _describe command commands
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_keyturn" ]; then _keyturn "$@"; else compdef _keyturn keyturn; fi
`;
}

function zshText(text: string): string {
  return text.replaceAll("'", `'\\''`).replaceAll(":", "\\:");
}

function fish(places: readonly Place[]): string {
  const lines: string[] = [];
  for (const { path, commands, options, values } of places) {
    const when = `-n "__keyturn_at '${path}'"`;
    for (const { name, text } of commands)
      lines.push(`complete -c keyturn ${when} -f -a ${name} -d ${fishText(text)}`);
    for (const value of values) lines.push(`complete -c keyturn ${when} -f -a ${value}`);
    for (const { flags, text, takes } of options) {
      const names = flags
        .map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`))
        .join(" ");
      const more =
        takes === "nothing"
          ? "-f"
          : takes === "file"
            ? "-r -F"
            : takes === "word"
              ? "-x"
              : `-x -a "${(takes as string[]).join(" ")}"`;
      lines.push(`complete -c keyturn ${when} ${names} ${more} -d ${fishText(text)}`);
    }
  }
  const paths = places.filter(({ path }) => path !== "").map(({ path }) => `'${path}'`);
  return `# Completion of keyturn for fish.
function __keyturn_at
  set -l at ''
  set -l words (commandline -opc)
  for word in $words[2..-1]
    if contains -- (string trim "$at $word") ${paths.join(" ")}
      set at (string trim "$at $word")
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join("\n")}
`;
}

function fishText(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
