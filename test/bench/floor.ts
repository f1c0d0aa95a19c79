/**
 * The floor of an ask over NATS: a node that does only what no durable actor node can leave out, and its load.
 *
 * Decode a frame, step the counter's machine, append one fenced batch, answer. No recovery, no limits, no timers, no
 * checks, one life. The load puts what one tick asks into one frame a shard. Run as processes of their own; see nats.ts.
 *
 *   floor.js node URL
 *   floor.js load URL SHARDS IN_FLIGHT KEYS SECONDS
 */
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { Packr } from "msgpackr";
import { type AnyMachineSnapshot, createActor, initialTransition } from "xstate";
import { counter } from "../../actors/counter.ts";
import { shardOf } from "../../runtime/index.ts";

const packr = new Packr({ useRecords: false });
const [role, servers = "", ...rest] = process.argv.slice(2);
const nc = await connect({ servers, noAsyncTraces: true });
if (role === "node") await node(nc);
else await load(nc, ...(rest.map(Number) as [number, number, number, number]));

async function node(connection: NatsConnection): Promise<void> {
  const manager = await jetstreamManager(connection);
  await manager.streams.delete("floor").catch(() => undefined);
  await manager.streams.add({ name: "floor", subjects: ["floor.journal"] });
  const stream = jetstream(connection);
  const { machine } = counter;
  const self = createActor(machine);
  const nothing = (): void => undefined;
  const scope = {
    self,
    system: self.system,
    id: "",
    sessionId: "",
    defer: nothing,
    logger: nothing,
    stopChild: nothing,
    emit: nothing,
    actionExecutor: nothing,
  } as unknown as Parameters<typeof machine.transition>[2];
  const [initial] = initialTransition(machine);
  const actors = new Map<string, AnyMachineSnapshot>();
  let waiting: [string, [number, string, { type: "add"; by: number }][]][] = [];
  let last = 0;
  let busy = false;
  const drain = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      const frames = waiting;
      waiting = [];
      const records: unknown[] = [];
      const replies = new Map<string, [number, number][]>();
      for (const [inbox, requests] of frames) {
        let out = replies.get(inbox);
        if (out === undefined) replies.set(inbox, (out = []));
        for (const [id, key, event] of requests) {
          const next = machine.transition((actors.get(key) ?? initial) as never, event, scope);
          actors.set(key, next as never);
          records.push([key, event]);
          out.push([id, next.context.count]);
        }
      }
      const ack = await stream.publish("floor.journal", packr.pack(records), {
        expect: { lastSubjectSequence: last },
      });
      last = ack.seq;
      for (const [inbox, out] of replies) connection.publish(inbox, packr.pack(out));
    }
    busy = false;
  };
  connection.subscribe("floor.shard.*", {
    callback: (_error, message) => {
      waiting.push([message.reply as string, packr.unpack(message.data)]);
      void drain();
    },
  });
  await connection.flush();
  process.stdout.write("ready\n");
}

async function load(
  connection: NatsConnection,
  shards: number,
  inFlight: number,
  keys: number,
  seconds: number,
): Promise<void> {
  const inbox = `floor.inbox.${process.pid}`;
  const pending = new Map<number, (value: number) => void>();
  const out: unknown[][] = Array.from({ length: shards }, () => []);
  const dirty: number[] = [];
  let nextId = 0;
  let scheduled = false;
  connection.subscribe(inbox, {
    callback: (_error, message) => {
      for (const [id, value] of packr.unpack(message.data) as [number, number][]) {
        const done = pending.get(id);
        pending.delete(id);
        done?.(value);
      }
    },
  });
  const flush = (): void => {
    scheduled = false;
    for (const shard of dirty) {
      connection.publish(`floor.shard.${shard}`, packr.pack(out[shard]), { reply: inbox });
      out[shard] = [];
    }
    dirty.length = 0;
  };
  const ask = (key: string, event: unknown): Promise<number> =>
    new Promise((done) => {
      const shard = shardOf("counter", key, shards);
      const requests = out[shard] as unknown[];
      pending.set(nextId, done);
      if (requests.length === 0) dirty.push(shard);
      requests.push([nextId++, key, event]);
      if (scheduled) return;
      scheduled = true;
      setImmediate(flush);
    });
  const run = async (duration: number): Promise<object> => {
    const latencies: number[] = [];
    const start = performance.now();
    const end = start + duration * 1000;
    let n = 0;
    const caller = async (): Promise<void> => {
      for (let now = performance.now(); now < end; ) {
        await ask(`k${n++ % keys}`, { type: "add", by: 1 });
        const done = performance.now();
        latencies.push(done - now);
        now = done;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
    const elapsed = (performance.now() - start) / 1000;
    const sorted = Float64Array.from(latencies).sort();
    const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? 0;
    return { per_s: Math.round(sorted.length / elapsed), p50_ms: at(0.5), p99_ms: at(0.99) };
  };
  await run(seconds / 4);
  process.stdout.write(`${JSON.stringify(await run(seconds))}\n`);
  await connection.close();
}
