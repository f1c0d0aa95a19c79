/**
 * What a command says while it runs: lines for people on standard error, one JSON object a line on standard output.
 *
 * Owns both. Nothing else of the command line writes to them while a node runs.
 */
export interface ConsoleOptions {
  /** Who speaks, for people. */
  readonly name: string;
  readonly json: boolean;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

export class Console {
  readonly #options: ConsoleOptions;

  constructor(options: ConsoleOptions) {
    this.#options = options;
  }

  /**
   * Says that something has happened.
   * @param fields of the JSON object, beside `event`, `time` and `name`
   * @param text for people
   */
  say(event: string, fields: object, text: string): void {
    const { name, json, stdout } = this.#options;
    const time = new Date().toISOString();
    if (json) stdout.write(`${JSON.stringify({ event, time, name, ...fields })}\n`);
    this.note(text);
  }

  /** Says something that only people want to know. */
  note(text: string): void {
    const { name, stderr } = this.#options;
    stderr.write(`${new Date().toTimeString().slice(0, 8)} ${name}: ${text}\n`);
  }
}
