/** The command `keyturn` in this process: quick, with streams that a test reads. */
import { PassThrough, Readable } from "node:stream";
import { run } from "../../runtime/cli/program.ts";

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly stop?: AbortSignal;
  /** Hears of everything that is printed on standard output, as it comes. */
  readonly onOut?: (text: string) => void;
  readonly isTTY?: boolean;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of standard output, read as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look at what they expect
  readonly rows: any[];
}

/** Runs a command line to its end. */
export async function cli(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, stdin = "", stop, onOut, isTTY = false } = options;
  let out = "";
  let err = "";
  const stdout = Object.assign(new PassThrough(), { isTTY, columns: 100 });
  stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    onOut?.(text);
  });
  const stderr = new PassThrough();
  stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const code = await run(args, { env, stdout, stderr, stdin: Readable.from([stdin]), stop });
  // What was written is there with the next turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  return {
    code,
    stdout: out,
    stderr: err,
    get rows() {
      return out
        .trimEnd()
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as unknown);
    },
  };
}
