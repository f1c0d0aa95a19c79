/**
 * What a node reports, made into lines.
 *
 * Owns the gathering: shards move in dozens, and a task that fails is tried again and again; each is one line. Talks
 * to the console, says of what weight each line is; the node calls it.
 */
import type { Observer, SourceCounts } from "../engine/observer.ts";
import { type Level, REPEAT_MS, Seldom } from "../telemetry/log.ts";
import { isKeyturnError, type KeyturnError, textOf } from "../words/errors.ts";
import type { Console } from "./console.ts";

/** Shards that move within so long are one line. */
const GATHER_MS = 250;
const SHOWN = 8;

export class Observing implements Partial<Observer> {
  readonly #console: Console;
  readonly #serving: () => number;
  readonly #gained = new Set<number>();
  readonly #lost = new Set<number>();
  readonly #seldom = new Seldom(REPEAT_MS);
  readonly #onAskedToLeave: () => void;
  /** What is said of sources before the node is ready. */
  #early: (() => void)[] | undefined = [];
  #timer: NodeJS.Timeout | undefined;
  #life: string | undefined;

  /**
   * @param serving how many shards are served now
   * @param onAskedToLeave somebody wants this node to end
   */
  constructor(console: Console, serving: () => number, onAskedToLeave: () => void = () => undefined) {
    this.#onAskedToLeave = onAskedToLeave;
    this.#console = console;
    this.#serving = serving;
  }

  readonly joined = (incarnation: string): void => {
    const first = this.#life === undefined;
    this.#life = incarnation;
    // The first time is the line that says that the node is ready.
    if (first) this.#forget();
    else this.#console.say("rejoined", { incarnation }, `Joined again, as ${incarnation}.`);
  };

  readonly fenced = (incarnation: string): void => {
    this.#forget();
    this.#console.say(
      "fenced",
      { incarnation },
      `Fenced: another node has taken over from ${incarnation}. It joins again.`,
      "warn",
    );
  };

  readonly askedToLeave = (incarnation: string): void => {
    this.#console.say("asked_to_leave", { incarnation }, "Asked to leave (keyturn drain).");
    this.#onAskedToLeave();
  };

  readonly shardServing = (shard: number): void => {
    this.#lost.delete(shard);
    this.#gained.add(shard);
    this.#arrange();
  };

  readonly shardReleased = (shard: number): void => {
    this.#gained.delete(shard);
    this.#lost.add(shard);
    this.#arrange();
  };

  readonly shardFailed = (shard: number, error: KeyturnError): void => {
    this.#console.say(
      "shard_failed",
      { shard, error },
      `Shard ${shard} is stopped, the others go on: ${error.message}`,
      "error",
    );
  };

  readonly actionFailed = (id: string, action: string, error: unknown): void => {
    this.#trouble("action_failed", { actor: id, action }, `The action ${action} of ${id} failed`, error);
  };

  readonly logged = (id: string, label: string | undefined, value: unknown): void => {
    const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
    const said = label === undefined || label === "" ? text : `${label}: ${text}`;
    this.#console.say("logged", { actor: id, label, value }, `${id} says ${said}`);
  };

  readonly storeFull = (cause: unknown): void => {
    this.#trouble("store_full", {}, "The store has no room; what is written is refused", cause);
  };

  readonly sourceRuns = (source: string, from: string): void => {
    this.#afterReady(() =>
      this.#console.say("source", { source, running: true }, `Source ${source} runs: ${from}.`),
    );
  };

  readonly sourceEnded = (source: string, { items, malformed, ended }: SourceCounts): void => {
    const what = ended ? "is read to its end" : "is stopped";
    const which = malformed > 0 ? "; sourceDeadLetters(client, source) says which" : "";
    const text = `Source ${source} ${what}: ${items} items, ${malformed} of them malformed${which}.`;
    this.#afterReady(() => this.#console.say("source", { source, items, malformed, ended }, text));
  };

  readonly sourceFailed = (source: string, error: unknown): void => {
    const failed = textOf(error);
    const code = isKeyturnError(error) ? error.code : undefined;
    this.#afterReady(() =>
      this.#console.say(
        "source",
        { source, failed, code },
        `Source ${source} has failed: ${failed}`,
        "error",
      ),
    );
  };

  /** The line that says that the node is ready was written: what was to come behind it is said now. */
  ready(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const say of early) say();
  }

  #afterReady(say: () => void): void {
    if (this.#early === undefined) say();
    else this.#early.push(say);
  }

  readonly troubled = (task: string, error: unknown): void => {
    this.#trouble("troubled", { task }, `This failed and is tried again: ${task}`, error, "warn");
  };

  /** Says what was gathered, and arranges nothing more. */
  end(): void {
    this.#flush();
  }

  #arrange(): void {
    this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS);
  }

  #flush(): void {
    const gained = [...this.#gained].sort(byNumber);
    const lost = [...this.#lost].sort(byNumber);
    this.#forget();
    if (gained.length + lost.length === 0) return;
    const serving = this.#serving();
    const parts = [
      ...(gained.length === 0 ? [] : [`${gained.length} came (${listOf(gained)})`]),
      ...(lost.length === 0 ? [] : [`${lost.length} went (${listOf(lost)})`]),
    ];
    this.#console.say(
      "shards",
      { gained, lost, serving },
      `Shards: ${parts.join(", ")}; ${serving} here now.`,
    );
  }

  #forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#gained.clear();
    this.#lost.clear();
  }

  #trouble(event: string, fields: object, text: string, error: unknown, level: Level = "error"): void {
    const reason = textOf(error);
    const times = this.#seldom.pass(`${text} ${reason}`);
    if (times === undefined) return;
    const again = times === 0 ? "" : ` (and ${times} times since it was said last)`;
    this.#console.say(event, { ...fields, reason, repeated: times }, `${text}: ${reason}${again}`, level);
  }
}

function byNumber(a: number, b: number): number {
  return a - b;
}

function listOf(shards: readonly number[]): string {
  const more = shards.length > SHOWN ? `, and ${shards.length - SHOWN} more` : "";
  return `${shards.slice(0, SHOWN).join(", ")}${more}`;
}
