/**
 * Append lists: several senders pipeline entries to each key. Per sender first in, first out; each entry once; every
 * read, watch update and turn of the history shows a prefix of the final list.
 */
import { assign, setup } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import {
  checkExactlyOnce,
  checkSenderFifo,
  type SentEntry,
} from "../../../runtime/testing/checkers/index.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";
import { isKeyturnError } from "../../../runtime/words/errors.ts";

interface Entry {
  readonly sender: string;
  readonly sequence: number;
}

const machine = setup({
  types: {
    context: {} as { entries: Entry[] },
    events: {} as { type: "append"; sender: string; sequence: number },
  },
}).createMachine({
  context: { entries: [] },
  on: {
    append: {
      actions: assign({
        entries: ({ context, event }) => [
          ...context.entries,
          { sender: event.sender, sequence: event.sequence },
        ],
      }),
    },
  },
});

const list = defineActor({ type: "simList", machine });

export const listWorkload: Workload = {
  name: "list",
  actors: [list],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 4) }, (_, at) => `l${at}`);
    const acknowledged = new Map<string, SentEntry[]>(keys.map((key) => [key, []]));
    const refused: { key: string; entry: Entry }[] = [];
    /** What was seen on the way, with what the reader had surely been told before. */
    const seen: { key: string; entries: readonly Entry[]; how: string; atLeast: number }[] = [];
    const final = new Map<string, readonly SentEntry[]>();
    const told: string[] = [];
    const stops: AbortController[] = [];
    const watched = new Map<string, { key: string; last: readonly Entry[] }>();

    const sender = (client: number) => async (): Promise<void> => {
      const pending: Promise<void>[] = [];
      for (const key of keys) {
        const ref = context.clients[client % context.clients.length]!.actor(list, key);
        const name = `s${client}`;
        for (let sequence = 1; sequence <= context.requests && !context.ending; sequence++) {
          const entry = { sender: name, sequence };
          pending.push(
            resultOf(ref.send({ type: "append", ...entry }, { timeout_ms: context.timeout_ms() })).then(
              (result) => {
                if (result.outcome === "ok") acknowledged.get(key)?.push(entry);
                else if (result.outcome === "failed") refused.push({ key, entry });
              },
            ),
          );
          if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 200));
        }
      }
      await Promise.all(pending);
    };
    const reader = async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const atLeast = acknowledged.get(key)?.length ?? 0;
        const ref = random.pick(context.clients).actor(list, key);
        const result = await resultOf(ref.get({ timeout_ms: context.timeout_ms() }));
        if (result.outcome === "ok")
          seen.push({ key, entries: result.value.context.entries, how: "a read", atLeast });
        await context.sleep(random.logarithmic(0.5, 200));
      }
    };
    const watcher = (name: string, key: string) => async (): Promise<void> => {
      const stop = new AbortController();
      stops.push(stop);
      const note = { key, last: [] as readonly Entry[] };
      watched.set(name, note);
      for await (const state of random
        .pick(context.clients)
        .actor(list, key)
        .watch({ signal: stop.signal })) {
        const { entries } = state.context;
        if (entries.length < note.last.length)
          told.push(`list ${key}: a watch went back from ${note.last.length} to ${entries.length} entries`);
        note.last = entries;
        seen.push({ key, entries, how: "a watch", atLeast: 0 });
        if (context.ending) break;
      }
    };
    // Watches end in `finish`, so their processes are not waited for.
    const watchers = Array.from({ length: random.whole(0, 2) }, (_, at) =>
      watcher(`w${at}`, random.pick(keys)),
    );
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 4) }, (_, at) => sender(at)),
        reader,
        async () => {
          for (const run of watchers)
            run().catch((error: unknown) => told.push(`list: a watch threw ${String(error)}`));
        },
      ],
      async finish() {
        // A watch must come to the last state without being asked.
        await context.sleep(20_000);
        for (const key of keys) {
          const ref = context.observer.actor(list, key);
          const state = await insist(context, () => ref.get());
          final.set(key, state.context.entries);
          const order = random.pick(["newest", "oldest"] as const);
          const turns = await insist(context, async () => {
            const found = [];
            try {
              for await (const turn of ref.history({ order })) found.push(turn);
            } catch (error) {
              if (context.keepsAll || !isKeyturnError(error, "history_trimmed")) throw error;
              found.length = 0;
            }
            return order === "newest" ? found.reverse() : found;
          });
          const { entries: all } = state.context;
          // Where the journal is trimmed the oldest turn that is left says so; or there is none.
          const isTrimmed = !context.keepsAll && (turns[0] === undefined || turns[0].trimmed === true);
          const begins = isTrimmed ? all.length - turns.length : 0;
          const entries = all.slice(begins);
          const past = turns.map(({ context: then }) => (then as { entries: Entry[] }).entries.length);
          if (turns.length !== entries.length || past.some((length, at) => length !== begins + at + 1))
            told.push(
              `list ${key}: the history (${order}) has states of ${past.join()} entries, the list ${entries.length}`,
            );
          const events = turns.map(({ event }) => (event as { sequence: number }).sequence);
          if (events.join() !== entries.map(({ sequence }) => sequence).join())
            told.push(`list ${key}: the history's events are not what is in the list`);
        }
        for (const [name, { key, last }] of watched)
          if (!context.ending || last.length > (final.get(key)?.length ?? 0))
            told.push(`list ${key}: watch ${name} saw ${last.length} entries`);
        for (const stop of stops) stop.abort();
        await context.sleep(1);
      },
      check() {
        const violations = [...told];
        violations.push(...checkSenderFifo(final).map(({ message }) => message));
        violations.push(...checkExactlyOnce(final, acknowledged).map(({ message }) => message));
        for (const { key, entry } of refused)
          if (final.get(key)?.some((e) => e.sender === entry.sender && e.sequence === entry.sequence))
            violations.push(`list ${key}: ${entry.sender}/${entry.sequence} was refused and is there`);
        for (const { key, entries, how, atLeast } of seen) {
          const whole = final.get(key) ?? [];
          if (entries.some((e, at) => e.sender !== whole[at]?.sender || e.sequence !== whole[at]?.sequence))
            violations.push(`list ${key}: ${how} of ${entries.length} entries saw no prefix of the list`);
          if (entries.length < atLeast)
            violations.push(
              `list ${key}: ${how} saw ${entries.length} entries, ${atLeast} were acknowledged`,
            );
        }
        return violations;
      },
    };
  },
};
