/**
 * Lists: several senders pipeline entries to each key. Per sender first in, first out; each entry once; whatever a reader
 * sees is a prefix of the final list, with everything in it that was acknowledged before it asked.
 */
import type { Client } from "../../../runtime/index.ts";
import {
  checkExactlyOnce,
  checkSenderFifo,
  type Violation,
} from "../../../runtime/testing/checkers/index.ts";
import { type Entry, list } from "../actors.ts";
import {
  type Broken,
  type ChaosContext,
  type ChaosWorkload,
  now,
  operate,
  pause,
  readAll,
} from "./workload.ts";

const NAME = "list";
/** Entries that one sender sends to one key before it goes on to the next. */
const ENTRIES = 40;
/** Sent before the sender waits for their outcomes. */
const PIPELINE = 8;

interface Seen {
  readonly key: string;
  readonly entries: readonly Entry[];
  /** Entries that were acknowledged to somebody before the reader asked. */
  readonly atLeast: number;
}

export function lists(context: ChaosContext): ChaosWorkload {
  const { random, clients, steady } = context;
  const keys: string[] = [];
  const acknowledged = new Map<string, Entry[]>();
  const refused = new Map<string, Entry[]>();
  const lines = new Map<string, string[]>();
  const seen: Seen[] = [];
  let final = new Map<string, readonly Entry[]>();

  const keyOf = (round: number): string => {
    for (let next = keys.length; next <= round; next++) {
      const key = `l:${next}`;
      keys.push(key);
      for (const byKey of [acknowledged, refused]) byKey.set(key, []);
      lines.set(key, []);
    }
    return keys[round] as string;
  };
  const note = (key: string, text: string): void => {
    lines.get(key)?.push(`${Math.round(now())} ${text}`);
  };

  const sender = (name: string, client: Client) => async (): Promise<void> => {
    for (let round = 0; !context.ending; round++) {
      const key = keyOf(round);
      const ref = client.actor(list, key);
      let pending: Promise<void>[] = [];
      for (let sequence = 1; sequence <= ENTRIES && !context.ending; sequence++) {
        const entry = { sender: name, sequence };
        const timeout_ms = Math.round(random.logarithmic(500, 12_000));
        const call = ref.send({ type: "append", ...entry }, { timeout_ms });
        note(key, `${name} sends ${sequence}`);
        pending.push(
          operate(context, NAME, call).then((result) => {
            if (result.outcome === "ok") acknowledged.get(key)?.push(entry);
            else if (result.outcome === "failed") refused.get(key)?.push(entry);
            note(key, `${name} ${sequence}: ${result.outcome === "ok" ? "ok" : result.error.code}`);
          }),
        );
        if (pending.length < PIPELINE && random.chance(0.7)) continue;
        await Promise.all(pending);
        pending = [];
        await pause(context, random.logarithmic(5, 150));
      }
      await Promise.all(pending);
    }
  };

  const reader = async (): Promise<void> => {
    while (!context.ending) {
      if (keys.length > 0) {
        const key = random.pick(keys.slice(-3));
        const atLeast = acknowledged.get(key)?.length ?? 0;
        const ref = random.pick([...clients, steady]).actor(list, key);
        const result = await operate(context, NAME, ref.get({ timeout_ms: 3_000 }));
        if (result.outcome === "ok") seen.push({ key, entries: result.value.context.entries, atLeast });
      }
      await pause(context, random.logarithmic(10, 200));
    }
  };

  const broken = (violations: readonly Violation[]): Broken[] =>
    violations.map(({ key, message }) => ({ key, message, history: lines.get(key) ?? [] }));

  return {
    name: NAME,
    processes: [...[...clients, steady].map((client, at) => sender(`s${at}`, client)), reader],
    async finals() {
      final = await readAll(keys, async (key, timeout_ms) => {
        return (await steady.actor(list, key).get({ timeout_ms })).context.entries;
      });
      return new Map([...final].map(([key, entries]) => [key, JSON.stringify(entries)]));
    },
    check() {
      const entries = [...final.values()].reduce((sum, { length }) => sum + length, 0);
      const once = broken(checkExactlyOnce(final, acknowledged));
      for (const [key, gone] of refused)
        for (const { sender, sequence } of gone)
          if (final.get(key)?.some((entry) => entry.sender === sender && entry.sequence === sequence))
            once.push({
              key,
              message: `list ${key}: ${sender}/${sequence} was refused and is there`,
              history: lines.get(key) ?? [],
            });
      return [
        {
          promise: "what one reference sends is applied in that order",
          scope: `${entries} entries, ${keys.length} keys`,
          violations: broken(checkSenderFifo(final)),
        },
        {
          promise: "each entry that was acknowledged is there once; none that was refused",
          scope: `${entries} entries`,
          violations: once,
        },
        {
          promise: "a read shows a prefix of the list, and everything acknowledged before it",
          scope: `${seen.length} reads`,
          violations: seen.flatMap((read) => faultsOf(read, final.get(read.key) ?? [], lines)),
        },
      ];
    },
  };
}

function faultsOf(
  { key, entries, atLeast }: Seen,
  whole: readonly Entry[],
  lines: ReadonlyMap<string, string[]>,
): Broken[] {
  const history = lines.get(key) ?? [];
  const found: Broken[] = [];
  const strange = entries.findIndex(
    ({ sender, sequence }, at) => sender !== whole[at]?.sender || sequence !== whole[at]?.sequence,
  );
  if (strange >= 0)
    found.push({ key, message: `list ${key}: a read differs from the list at ${strange}`, history });
  if (entries.length < atLeast)
    found.push({
      key,
      message: `list ${key}: a read saw ${entries.length} entries, ${atLeast} were acknowledged before`,
      history,
    });
  return found;
}
