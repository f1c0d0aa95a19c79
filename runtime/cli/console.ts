/**
 * What a command says while it runs: logs on standard error, one JSON object a line on standard output.
 *
 * Owns both. Nothing else of the command line writes to them while a node runs. Logs are lines for people or, where a
 * logger is given (`logs.ts`), whatever that makes of them.
 */
import type { Level, Log } from "../telemetry/log.ts";

export interface ConsoleOptions {
  /** Who speaks. */
  readonly name: string;
  readonly json: boolean;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** What is of less weight is not logged; `info` by default. */
  readonly level?: Level | undefined;
  /** Takes the logs instead of standard error. */
  readonly log?: Log | undefined;
}

/** From the least weight to the greatest. */
export const LEVELS = ["debug", "info", "warn", "error"] as const satisfies readonly Level[];

export class Console {
  readonly #options: ConsoleOptions;
  readonly #least: number;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    this.#least = LEVELS.indexOf(options.level ?? "info");
  }

  /**
   * Says that something has happened.
   * @param fields of the JSON object, beside `event`, `time` and `name`
   * @param text for people
   */
  say(event: string, fields: object, text: string, level: Level = "info"): void {
    const { name, json, stdout } = this.#options;
    const time = new Date().toISOString();
    if (json) stdout.write(`${JSON.stringify({ event, time, name, ...fields })}\n`);
    this.#write(level, { event, ...fields }, text);
  }

  /** Says something that only the logs are told. */
  note(text: string, level: Level = "info"): void {
    this.#write(level, {}, text);
  }

  #write(level: Level, fields: object, text: string): void {
    if (LEVELS.indexOf(level) < this.#least) return;
    const { name, stderr, log } = this.#options;
    if (log !== undefined) log[level](fields, text);
    else stderr.write(`${new Date().toTimeString().slice(0, 8)} ${name}: ${text}\n`);
  }
}
