/** The supervisor of `--processes N`, with processes that are none: who is restarted, when, and when it ends. */
import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Console } from "../runtime/cli/console.ts";
import { type ChildMessage, Supervisor } from "../runtime/cli/supervisor.ts";

/** What the supervisor sees of a process. */
class Fake extends EventEmitter {
  readonly started_ms = performance.now();
  readonly name: string;
  readonly signals: string[] = [];
  readonly told: unknown[] = [];
  connected = true;

  constructor(name: string) {
    super();
    this.name = name;
  }

  send(message: unknown): boolean {
    return this.told.push(message) > 0;
  }

  kill(signal: NodeJS.Signals): boolean {
    this.signals.push(signal);
    this.end(null, signal);
    return true;
  }

  end(code: number | null, signal: NodeJS.Signals | null = null): void {
    this.connected = false;
    this.emit("close", code, signal);
  }

  say(message: ChildMessage): void {
    this.emit("message", message);
  }
}

let started: Fake[];
let stop: AbortController;
let supervisor: Supervisor;
let code: number | undefined;
let lines: string;

/** The newest process of that name. */
const last = (name: string): Fake => started.findLast((one) => one.name === name) as Fake;

beforeEach(() => {
  vi.useFakeTimers();
  started = [];
  lines = "";
  stop = new AbortController();
  code = undefined;
  const out = new PassThrough();
  out.setEncoding("utf8").on("data", (text: string) => (lines += text));
  const console = new Console({ name: "n", json: true, stdout: out, stderr: new PassThrough() });
  const start = (name: string): ChildProcess => {
    const fake = new Fake(name);
    started.push(fake);
    return fake as unknown as ChildProcess;
  };
  supervisor = new Supervisor({ names: ["a", "b"], grace_ms: 1_000, start }, console);
  void supervisor.run(stop.signal).then((ended) => (code = ended));
});

afterEach(() => {
  vi.useRealTimers();
});

function makeReady(...names: string[]): void {
  for (const name of names) {
    last(name).say({ kind: "health", health: { live: true, ready: true } });
    last(name).say({ kind: "ready" });
  }
}

describe("the supervisor", () => {
  it("is ready when every process is, and says so once", async () => {
    expect(started.map(({ name }) => name)).toEqual(["a", "b"]);
    makeReady("a");
    expect(supervisor.health.ready).toBe(false);
    makeReady("b");
    expect(supervisor.health).toMatchObject({ live: true, ready: true, processes: { a: { ready: true } } });
    last("a").end(1);
    expect(supervisor.health.ready).toBe(false);
    await vi.advanceTimersByTimeAsync(500);
    makeReady("a");
    expect(supervisor.health.ready).toBe(true);
    expect(lines.match(/"all_ready"/g)).toHaveLength(1);
  });

  it("starts again what has ended, after pauses that double up to a bound and begin anew", async () => {
    makeReady("a", "b");
    const pauses: number[] = [];
    for (let death = 0; death < 9; death++) {
      const died_ms = performance.now();
      const before = started.length;
      last("a").end(death % 2, null);
      while (started.length === before) {
        last("b").say({ kind: "health", health: { live: true, ready: true } });
        await vi.advanceTimersByTimeAsync(100);
      }
      pauses.push(last("a").started_ms - died_ms);
    }
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    makeReady("a");
    for (let second = 0; second < 60; second++) {
      await vi.advanceTimersByTimeAsync(1_000);
      for (const name of ["a", "b"]) last(name).say({ kind: "health", health: { live: true, ready: true } });
    }
    const before = started.length;
    last("a").end(null, "SIGSEGV");
    await vi.advanceTimersByTimeAsync(500);
    expect(started.length).toBe(before + 1);
    expect(code).toBeUndefined();
  });

  it.each([
    [1, "nobody could be started"],
    [2, "the command line is wrong"],
  ])("ends with %i if %s, and stops the others", async (wrong) => {
    last("a").end(wrong);
    expect(last("b").told).toEqual([{ kind: "stop" }]);
    last("b").end(0);
    await vi.advanceTimersByTimeAsync(0);
    expect(code).toBe(wrong);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("tries again what fails at its start while others are ready", async () => {
    makeReady("b");
    last("a").end(1);
    await vi.advanceTimersByTimeAsync(500);
    expect(started.map(({ name }) => name)).toEqual(["a", "b", "a"]);
    expect(code).toBeUndefined();
  });

  it("stops everybody, also who waits for a restart, and kills who does not end", async () => {
    makeReady("a", "b");
    last("a").end(1);
    stop.abort();
    expect(last("b").told).toEqual([{ kind: "stop" }]);
    await vi.advanceTimersByTimeAsync(5_999);
    expect(code).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(last("b").signals).toEqual(["SIGKILL"]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(code).toBe(1);
    expect(started).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("ends well when all have ended well", async () => {
    makeReady("a", "b");
    stop.abort();
    last("a").end(0);
    last("b").end(0);
    await vi.advanceTimersByTimeAsync(0);
    expect(code).toBe(0);
  });

  it("kills and restarts what says that only a restart helps, and what says nothing any more", async () => {
    makeReady("a", "b");
    const [a, b] = [last("a"), last("b")];
    a.say({ kind: "health", health: { live: false, ready: false } });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(a.signals).toEqual(["SIGKILL"]);
    await vi.advanceTimersByTimeAsync(110_000);
    expect(b.signals).toEqual([]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(b.signals).toEqual(["SIGKILL"]);
    await vi.advanceTimersByTimeAsync(500);
    expect(started.map(({ name }) => name)).toEqual(["a", "b", "a", "b"]);
    expect(lines.match(/"process_stuck"/g)).toHaveLength(2);
  });

  it("ends everybody at once when told so", () => {
    supervisor.kill();
    expect(started.map(({ signals }) => signals)).toEqual([["SIGKILL"], ["SIGKILL"]]);
  });
});
