/** What every command is given, and the failure that is no bug. */
export interface Shell {
  /** The command line, without node and the program. */
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** Says which code to exit with; 0 without it. */
  exit(code: number): void;
}

/** Done. */
export const DONE = 0;
/** It failed; it may succeed later. */
export const FAILED = 1;
/** The command line, or a file that it names, is wrong. */
export const WRONG = 2;

/** Something outside of this program is not as it has to be, and the text says what: nobody needs a stack. */
export class Failure extends Error {
  override readonly name = "Failure";
}
