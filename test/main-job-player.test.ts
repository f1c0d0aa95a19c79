/** The player of the main job, against airports that refuse, forget to answer, and answer late. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createActor } from "xstate";
import { type AirportEvent, type AirportReply, airport } from "../actors/index.ts";
import { type Flight, messagesOf, readFlights } from "../examples/flights/flights.ts";
import { type Airport, play } from "../examples/flights/player.ts";
import { type ErrorCode, KeyturnError, memory, startNode } from "../runtime/index.ts";

/** What becomes of one message: it is applied or not, and there is an answer or an error. */
type Fate = "answered" | "refused" | "answerLost" | "questionLost";

/** The airports as one client sees them: first in, first out for each, with whatever fates are handed in. */
class World {
  asks = 0;
  open = 0;
  openMax = 0;
  readonly #machines = new Map<string, ReturnType<typeof machineOf>>();
  readonly #fate: () => Fate;
  readonly #ticks: () => number;

  constructor(fate: () => Fate, ticks: () => number) {
    this.#fate = fate;
    this.#ticks = ticks;
  }

  airportOf(name: string): Airport {
    return { address: `airport/${name}`, ask: (event) => this.#ask(name, event) };
  }

  contextOf(name: string): unknown {
    return this.#machine(name).getSnapshot().context;
  }

  stop(): void {
    for (const machine of this.#machines.values()) machine.stop();
  }

  async #ask(name: string, event: AirportEvent): Promise<AirportReply> {
    this.asks++;
    this.openMax = Math.max(this.openMax, ++this.open);
    const fate = this.#fate();
    const reply = fate === "refused" || fate === "questionLost" ? undefined : this.#apply(name, event);
    for (let tick = this.#ticks(); tick > 0; tick--) await new Promise((resolve) => setImmediate(resolve));
    this.open--;
    if (fate === "answered") return reply as AirportReply;
    throw new KeyturnError(fate === "refused" ? "mailbox_full" : "timeout", fate);
  }

  #machine(name: string): ReturnType<typeof machineOf> {
    let machine = this.#machines.get(name);
    if (machine === undefined) this.#machines.set(name, (machine = machineOf()));
    return machine;
  }

  /** What the machine replies. A plain XState actor does not tell, so it is read off its guards' terms. */
  #apply(name: string, event: AirportEvent): AirportReply {
    const machine = this.#machine(name);
    const before = machine.getSnapshot().context.position;
    machine.send(event);
    if (machine.getSnapshot().context.position !== before) return "applied";
    return event.position <= before ? "alreadyApplied" : "outOfOrder";
  }
}

function machineOf() {
  return createActor(airport.machine).start();
}

const names = ["AAA", "BBB", "CCC"];
const flights = fc.array(
  fc.record({
    origin: fc.constantFrom(...names),
    destination: fc.constantFrom(...names),
    delay: fc.integer({ min: -60, max: 500 }),
  }),
  { maxLength: 60 },
);

/** The airports after an undisturbed run. */
function expectedOf(source: readonly Flight[]): Map<string, unknown> {
  const world = new World(
    () => "answered",
    () => 0,
  );
  for (const { airport: name, event } of messagesOf(source)) void world.airportOf(name).ask(event);
  const contexts = new Map(names.map((name) => [name, world.contextOf(name)]));
  world.stop();
  return contexts;
}

describe("the player", () => {
  it("comes to the same airports whatever becomes of single messages", async () => {
    const fates = fc.infiniteStream(
      fc.oneof(
        { weight: 9, arbitrary: fc.constant<Fate>("answered") },
        { weight: 1, arbitrary: fc.constantFrom<Fate>("refused", "answerLost", "questionLost") },
      ),
    );
    const ticks = fc.infiniteStream(fc.nat(3));
    await fc.assert(
      fc.asyncProperty(
        flights,
        fates,
        ticks,
        fc.integer({ min: 1, max: 20 }),
        async (source, f, t, inFlight) => {
          const world = new World(
            () => f.next().value,
            () => t.next().value,
          );
          const progress: number[] = [];
          const confirmed = await play((name) => world.airportOf(name), messagesOf(source), {
            inFlight,
            onProgress: (done) => progress.push(done),
          });
          expect(confirmed).toBe(2 * source.length);
          expect(progress).toEqual(Array.from({ length: confirmed }, (_, n) => n + 1));
          for (const [name, context] of expectedOf(source)) expect(world.contextOf(name)).toEqual(context);
          expect(world.openMax).toBeLessThanOrEqual(inFlight);
          expect(world.open).toBe(0);
          world.stop();
        },
      ),
      { numRuns: 60 },
    );
  });

  const someFlights = Array.from({ length: 50 }, (_, n): Flight => {
    return { origin: names[n % 3] as string, destination: names[(n + 1) % 3] as string, delay: n };
  });

  /** Plays until the asks are so many, and then fails or stops. */
  function worldFailing(after: number, code: ErrorCode, onFailure = (): void => undefined): World {
    const world = new World(
      () => {
        if (world.asks <= after) return "answered";
        onFailure();
        throw new KeyturnError(code, "as arranged");
      },
      () => 1,
    );
    return world;
  }

  it("ends with an error that no repetition can cure", async () => {
    const world = worldFailing(20, "machine_failed");
    const playing = play((name) => world.airportOf(name), messagesOf(someFlights), { inFlight: 8 });
    await expect(playing).rejects.toMatchObject({ code: "machine_failed" });
    expect(world.asks).toBeLessThanOrEqual(30);
    world.stop();
  });

  it("ends when it is told to, with nothing in flight, and also out of a pause", async () => {
    const stop = new AbortController();
    const world = worldFailing(20, "store_full", () => setTimeout(() => stop.abort(), 5));
    const confirmed = await play((name) => world.airportOf(name), messagesOf(someFlights), {
      inFlight: 8,
      signal: stop.signal,
    });
    expect(confirmed).toBe(20);
    world.stop();
  });

  it("plays nothing when it was told to stop before", async () => {
    const world = worldFailing(0, "timeout");
    const signal = AbortSignal.abort();
    expect(await play((name) => world.airportOf(name), messagesOf(someFlights), { signal })).toBe(0);
    expect(world.asks).toBe(0);
  });

  it("comes to the same airports on nodes that refuse most of it, while one of them dies", async () => {
    const source = (await readFlights()).slice(0, 3_000);
    const store = memory();
    const settings = { lease_ms: 300, heartbeat_ms: 100, mailboxMessages: 4, intakeMessages: 128 };
    const doomed = await startNode({ actors: [airport], store, settings, name: "doomed" });
    const node = await startNode({ actors: [airport], store, settings, name: "node" });
    let killed = false;
    await play((name) => node.client.actor(airport, name), messagesOf(source), {
      onProgress: (done) => {
        if (killed || done < source.length) return;
        killed = true;
        doomed.kill();
      },
    });
    expect(killed).toBe(true);
    const touched = [...new Set(source.flatMap(({ origin, destination }) => [origin, destination]))];
    const machines = new Map(touched.map((name) => [name, machineOf()]));
    for (const { airport: name, event } of messagesOf(source)) machines.get(name)?.send(event);
    for (const name of touched) {
      const expected = machines.get(name)?.stop().getSnapshot();
      const { value, context } = await node.client.actor(airport, name).get();
      expect({ value, context }).toEqual({ value: expected?.value, context: expected?.context });
    }
    await node.stop();
  });
});
