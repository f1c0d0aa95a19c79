/** Registers: read, write, compare-and-set by several clients on few keys. Linearizable per key. */
import type { Client } from "../../../runtime/index.ts";
import {
  checkLinearizability,
  HistoryRecorder,
  partitionByKey,
  type RegisterInput,
  type RegisterOutput,
  registerModel,
} from "../../../runtime/testing/checkers/index.ts";
import { register } from "../actors.ts";
import {
  type Broken,
  type ChaosContext,
  type ChaosWorkload,
  KeyRing,
  linesOf,
  now,
  OPERATIONS_MAX,
  operate,
  pause,
  readAll,
} from "./workload.ts";

const NAME = "register";
const KEYS = 5;
const USES = 120;
const UNKNOWN = 10;
/** For one key. */
const STEPS_MAX = 2_000_000;

export function registers(context: ChaosContext): ChaosWorkload {
  const { random, clients, steady } = context;
  const ring = new KeyRing("r/é ", KEYS, USES, UNKNOWN);
  const history = new HistoryRecorder<RegisterInput, RegisterOutput>({ operationsMax: OPERATIONS_MAX });
  /** Values above those of compare-and-set are written once, so that a stale read shows. */
  let values = 4;

  const process = (name: string, client: Client) => async (): Promise<void> => {
    while (!context.ending) {
      const key = ring.pick(random);
      const dice = random.next();
      const input: RegisterInput =
        dice < 0.4
          ? { type: "read" }
          : dice < 0.7
            ? { type: "write", value: ++values }
            : { type: "compareAndSet", expected: random.whole(0, 4), value: random.whole(0, 4) };
      const written = await once(name, client, key, input);
      // Somebody who may not have heard of a new owner yet looks at once.
      if (written && random.chance(0.3))
        await once(`${name}'`, random.pick([...clients, steady]), key, { type: "read" });
      if (random.chance(0.8)) await pause(context, random.logarithmic(2, 60));
    }
  };

  const once = async (name: string, client: Client, key: string, input: RegisterInput): Promise<boolean> => {
    const options = { timeout_ms: Math.round(random.logarithmic(30, 6_000)) };
    const ref = client.actor(register, key);
    const call = async (): Promise<RegisterOutput> => {
      if (input.type === "read" && random.chance(0.3)) return await ref.ask({ type: "read" }, options);
      if (input.type === "read") return (await ref.get(options)).context.value;
      const value = input.value as number;
      if (input.type === "compareAndSet")
        return await ref.ask({ type: "swap", expected: input.expected as number, value }, options);
      await ref.send({ type: "write", value }, options);
      return null;
    };
    const handle = history.begin(name, key, input, now());
    const result = await operate(context, NAME, call());
    if (result.outcome === "ok") history.ok(handle, result.value, now());
    else history[result.outcome](handle, result.error.code, now());
    if (result.outcome === "unknown") ring.unknown(key);
    return result.outcome === "ok" && input.type === "write";
  };

  return {
    name: NAME,
    processes: [...clients, steady, ...clients].map((client, at) => process(`p${at}`, client)),
    async finals() {
      const found = await readAll(ring.keys, async (key, timeout_ms) => {
        const input = { type: "read" } as const;
        const { value } = (await steady.actor(register, key).get({ timeout_ms })).context;
        // Called and answered after everything else, so it says what was left.
        history.ok(history.begin("final", key, input, now()), value, now());
        return JSON.stringify(value);
      });
      return found;
    },
    check() {
      const operations = history.operations();
      const broken: Broken[] = [];
      let undecided = 0;
      for (const [key, partition] of partitionByKey(operations)) {
        const result = checkLinearizability(partition, registerModel(0), { stepsMax: STEPS_MAX });
        if (result.ok === "undecided") undecided++;
        if (result.ok === false) broken.push({ key, message: result.message, history: linesOf(partition) });
      }
      const left = undecided === 0 ? "" : `, ${undecided} too entangled to decide`;
      return [
        {
          promise: "registers are linearizable, per key",
          scope: `${operations.length} operations, ${ring.keys.length} keys${left}`,
          violations: broken,
        },
      ];
    },
  };
}
