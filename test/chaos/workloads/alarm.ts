/** Alarms: durable timers of a tenth of a second to half a minute. Each is applied once, and never early. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../runtime/index.ts";
import { checkTimersOnce, type TimerRecord } from "../../../runtime/testing/checkers/index.ts";
import { alarm, type Rung } from "../actors.ts";
import { type ChaosContext, type ChaosWorkload, KeyRing, operate, pause, readAll } from "./workload.ts";

const NAME = "alarm";
const KEYS = 4;
/** For one key; an actor may have 256 timers. */
const ALARMS = 100;
const DELAY_MAX_MS = 30_000;
/** After the end, an alarm that was due may still be on its way for so long. */
const LATE_MS = 5_000;

export function alarms(context: ChaosContext): ChaosWorkload {
  const { random, clients, steady } = context;
  const ring = new KeyRing("t ", KEYS, ALARMS);
  const timers: TimerRecord[] = [];
  /** Longest delay of an alarm of which nobody knows when it was set. */
  let unknownDelay_ms = 0;
  let rung = new Map<string, readonly Rung[]>();
  let end = 0;

  const process = (name: string, client: Client) => async (): Promise<void> => {
    for (let made = 0; !context.ending; made++) {
      const key = ring.pick(random);
      const timer = `${name}.${made}`;
      const delay = Math.round(random.logarithmic(100, DELAY_MAX_MS));
      // All processes have one clock here. The alarm is set after this moment, so it is due after this one.
      const due = Date.now() + delay;
      const timeout_ms = Math.round(random.logarithmic(200, 8_000));
      const call = client.actor(alarm, key).send({ type: "set", name: timer, delay }, { timeout_ms });
      const { outcome } = await operate(context, NAME, call);
      timers.push({ key, timer, due, scheduled: outcome });
      if (outcome === "unknown") unknownDelay_ms = Math.max(unknownDelay_ms, delay);
      await pause(context, random.logarithmic(20, 400));
    }
  };

  return {
    name: NAME,
    processes: [...clients, steady].map((client, at) => process(`p${at}`, client)),
    async finals() {
      // Nothing is on its way any more, so all alarms are set by now.
      if (end === 0) {
        end =
          timers.reduce((latest, { due }) => Math.max(latest, due), Date.now() + unknownDelay_ms) + LATE_MS;
      }
      await sleep(Math.max(0, end - Date.now()));
      rung = await readAll(ring.keys, async (key, timeout_ms) => {
        return (await steady.actor(alarm, key).get({ timeout_ms })).context.rung;
      });
      return new Map([...rung].map(([key, entries]) => [key, JSON.stringify(entries)]));
    },
    check() {
      const firings = [...rung].flatMap(([key, entries]) =>
        entries.map(({ name, at }) => ({ key, timer: name, at })),
      );
      const violations = checkTimersOnce(timers, firings, { end, latenessMax: LATE_MS });
      return [
        {
          promise: "timers are applied once, and never early",
          scope: `${timers.length} alarms, ${firings.length} rung`,
          violations: violations.map(({ key, message }) => ({
            key,
            message,
            history: [
              ...timers.filter((timer) => timer.key === key).map((timer) => JSON.stringify(timer)),
              ...(rung.get(key) ?? []).map((entry) => JSON.stringify(entry)),
            ],
          })),
        },
      ];
    },
  };
}
