/** What every command is given, and the failure that is no bug. */
export interface Shell {
  /** The command line, without node and the program. */
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  readonly stdin: NodeJS.ReadableStream;
  /** Ends what goes on until it is told to stop; signals of the process do without it. */
  readonly stop?: AbortSignal | undefined;
  /** Says which code to exit with; 0 without it. */
  exit(code: number): void;
}

/** Done. */
export const DONE = 0;
/** It failed; it may succeed later. */
export const FAILED = 1;
/** The command line, or a file that it names, is wrong. */
export const WRONG = 2;

/** The request was refused, and changed nothing: by the actor's machine, or because it does not fit. */
export const REJECTED = 3;
/** Whether the request was applied is not known. Repeating it with the request id that was printed tells. */
export const UNKNOWN = 4;
/** What was named is not there: an actor, a type, a timer, a node, a dead letter. */
export const MISSING = 5;

/** What scripts may decide by, as help and the reference say it. */
export const EXIT_CODES: readonly (readonly [code: string, text: string])[] = [
  [`${DONE}`, "done"],
  [`${FAILED}`, "failed; it may succeed later"],
  [`${WRONG}`, "the command line, or a file that it names, is wrong: repeating it cannot help"],
  [`${REJECTED}`, "rejected, nothing changed; of rebuild: something differs"],
  [`${UNKNOWN}`, "unknown whether it was applied: the same with the --request-id that was printed tells"],
  [`${MISSING}`, "what was named is not there: an actor, a type, a timer, a node, a dead letter"],
  ["128+n", "ended at once by a second signal n"],
];

/** Something outside of this program is not as it has to be, and the text says what: nobody needs a stack. */
export class Failure extends Error {
  override readonly name = "Failure";
}

/** What was named is not there. */
export class NotFound extends Failure {}

/** What ends that which goes on for ever: Ctrl-C, SIGTERM, and that nobody reads any more (`keyturn watch … | head`). */
export function stopSignal({ stop, stdout }: Shell): AbortSignal {
  if (stop !== undefined) return stop;
  const controller = new AbortController();
  stdout.once("error", () => controller.abort());
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}
