/** The completion scripts, each in its own shell. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { cli } from "./support/cli-run.ts";
import { fish, type ShellRun, zsh } from "./support/shells.ts";
import { temporaryPath } from "./support/temporary.ts";

/** What a shell offers for the words typed so far; the last is the one under the cursor. */
type Complete = (...words: string[]) => Promise<string[]>;

async function scriptOf(shell: string): Promise<string> {
  const { code, stdout, stderr } = await cli(["completion", shell]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

let inZsh: ShellRun;
let inFish: ShellRun;

beforeAll(async () => {
  inZsh = await zsh();
  inFish = await fish();
}, 300_000);

const shells: Readonly<Record<string, () => Promise<Complete>>> = {
  async bash() {
    const script = await scriptOf("bash");
    return async (...words) =>
      lines(
        execFileSync(
          "bash",
          [
            "-c",
            `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _keyturn; printf '%s\\n' "\${COMPREPLY[@]}"`,
            "bash",
            "keyturn",
            ...words,
          ],
          { encoding: "utf8" },
        ),
      );
  },
  /** As its completion system finds and loads it; what it would offer is printed instead. */
  async zsh() {
    const folder = temporaryPath();
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "_keyturn"), await scriptOf("zsh"));
    // What it finds in its first run it writes down, as it does for everybody, and reads in the next ones.
    const found = join(temporaryPath(), "zcompdump");
    return async (...words) => {
      const offered = await inZsh(`
        fpath=(${quoted(folder)} $fpath)
        autoload -Uz compinit && compinit -u -d ${quoted(found)}
        [[ $_comps[keyturn] == _keyturn ]] || exit 3
        _describe() { local -a all=("\${(@P)@[-1]}"); print -rl -- "\${(@)all%%:*}" }
        compadd() { shift; print -rl -- "$@" }
        _files() { print -r -- FILES }
        words=(keyturn ${words.map(quoted).join(" ")}); CURRENT=$#words
        _keyturn`);
      const start = words.at(-1) ?? "";
      return lines(offered).filter((word) => word === "FILES" || word.startsWith(start));
    };
  },
  async fish() {
    const script = await scriptOf("fish");
    return async (...words) => {
      const typed = ["keyturn", ...words].join(" ");
      const offered = await inFish(`${script}\ncomplete -C ${quoted(typed)}`);
      return lines(offered).map((line) => line.split("\t")[0] as string);
    };
  },
};

describe.each(Object.keys(shells))("completion in %s", (name) => {
  it("offers commands, those below them, options and their values, where each belongs", async () => {
    const complete = await (shells[name] as () => Promise<Complete>)();
    const all = await complete("");
    expect(all).toEqual(
      expect.arrayContaining(["new", "dev", "start", "find", "dead", "doctor", "completion"]),
    );
    expect(all).not.toContain("retry");
    expect(await complete("pro")).toEqual(["provision"]);
    expect((await complete("dead", "r")).sort()).toEqual(["retry"]);
    expect((await complete("find", "order", "--stat")).sort()).toEqual(["--state", "--status"]);
    expect(await complete("find", "order", "--status", "d")).toEqual(["done"]);
    expect((await complete("completion", "")).sort()).toEqual(
      expect.arrayContaining(["bash", "fish", "zsh"]),
    );
    expect(await complete("start", "--log-format", "j")).toEqual(["json"]);
    // What another command takes is not offered.
    expect(await complete("get", "--stat")).toEqual([]);
  });
});

it("helps with commands that there are, and takes others for slips of the pen", async () => {
  expect((await cli(["help", "find"])).stdout).toMatch(/^Usage: keyturn find /);
  expect((await cli(["help"])).stdout).toMatch(/^Usage: keyturn /);
  for (const args of [["help", "fnd"], ["fnd"]])
    expect(await cli(args)).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/unknown command 'fnd'\n\(Did you mean find\?\)/),
    });
});

it("has every command that help shows, in each script", async () => {
  const { stdout } = await cli(["--help"]);
  const names = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, command]) => command as string);
  expect(names.length).toBeGreaterThan(20);
  for (const name of Object.keys(shells)) {
    const script = await scriptOf(name);
    for (const command of names) expect(script).toMatch(new RegExp(`\\b${command}\\b`));
  }
  expect(await cli(["completion", "tcsh"])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/bash, zsh, fish/),
  });
});
