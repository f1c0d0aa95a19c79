/**
 * A client that is not ours, while nodes come and go: what it asks without an id is applied at most once, whoever
 * freezes, and a planned move does not fail a single request.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "nats";
import { afterAll, beforeAll, expect, test } from "vitest";
import { counter } from "../../actors/index.ts";
import { Stage } from "../chaos/stage.ts";
import { packageFolder, withPackage } from "../support/cli.ts";
import { shared } from "./shared.ts";

withPackage();

const SETTINGS = { lease_ms: 1_800, heartbeat_ms: 500 };
const KEYS = 60;

let logs: string;
let stage: Stage;
let nc: NatsConnection;

beforeAll(async () => {
  logs = mkdtempSync(join(tmpdir(), "keyturn-e2e-"));
  stage = await Stage.open({ dist: join(packageFolder(), "dist"), logs, settings: SETTINGS });
  await stage.startAll(["n1", "n2"]);
  await shared(stage);
  nc = await connect({ servers: stage.urls });
}, 60_000);

afterAll(async () => {
  await nc.close();
  await stage.close();
  rmSync(logs, { recursive: true, force: true });
}, 30_000);

/** Adds 1 to many counters, one request after another for each, without ids. */
class Adding {
  /** By key. */
  readonly answered = new Map<string, number>();
  readonly unknown = new Map<string, number>();
  readonly failures: string[] = [];
  readonly #name: string;
  readonly #running: Promise<unknown>;
  #ending = false;

  constructor(name: string) {
    this.#name = name;
    this.#running = Promise.all(Array.from({ length: KEYS }, (_, at) => this.#add(`${name}-${at}`)));
  }

  /** Resolves when every key was answered once more. */
  async onwards(): Promise<void> {
    await Promise.all([...Array(KEYS).keys()].map((at) => this.#once(`${this.#name}-${at}`)));
  }

  async end(): Promise<void> {
    this.#ending = true;
    await this.#running;
  }

  /** Keys whose count cannot be what was asked. */
  async wrong(): Promise<string[]> {
    const client = await stage.steady();
    const wrong: string[] = [];
    for (const [key, answered] of this.answered) {
      const { count } = (await client.actor(counter, key).get()).context;
      const unknown = this.unknown.get(key) ?? 0;
      if (count < answered || count > answered + unknown)
        wrong.push(`${key} is ${count}: ${answered} answered, ${unknown} unknown`);
    }
    return wrong;
  }

  async #add(key: string): Promise<void> {
    while (!this.#ending) await this.#once(key);
  }

  /** Asks until an ask is answered. */
  async #once(key: string): Promise<void> {
    const note = (counts: Map<string, number>): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
    for (;;) {
      try {
        const event = '{"type":"add","by":1}';
        const answer = await nc.request(`keyturn.actor.counter.${key}`, event, { timeout: 1_000 });
        const { error } = answer.json<{ error?: { code: string } }>();
        if (error === undefined) {
          note(this.answered);
          return;
        }
        this.failures.push(error.code);
        note(this.unknown);
      } catch (error) {
        const { code } = error as { code: string };
        this.failures.push(code);
        // With nobody there nothing was asked.
        if (code !== "503") note(this.unknown);
      }
    }
  }
}

test("a node joins and a node leaves: no request fails", async () => {
  const adding = new Adding("moves");
  await stage.start("n3");
  await shared(stage);
  await adding.onwards();
  expect(await stage.end("n1")).toEqual({ code: 0, signal: null });
  await shared(stage);
  await adding.onwards();
  await adding.end();
  expect(adding.failures).toEqual([]);
  expect(await adding.wrong()).toEqual([]);
  await stage.start("n1");
  await shared(stage);
});

test("a node freezes past its lease and wakes: nothing that it had received is applied twice", async () => {
  const adding = new Adding("freeze");
  const { process } = stage.node("n2");
  const from = process.events.length;
  process.signal("SIGSTOP");
  await adding.onwards();
  process.signal("SIGCONT");
  await process.until("fenced", { from });
  await process.until("rejoined", { from });
  await shared(stage);
  await adding.onwards();
  await adding.end();
  // What it applied late is seen by a read that is made after it: its reads and adds go the same way.
  expect(await adding.wrong()).toEqual([]);
});
