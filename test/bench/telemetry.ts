/**
 * What telemetry costs: the same asks on nodes that differ in nothing else.
 *
 * Each side (telemetry-side.ts) is a process of its own, so that no garbage, no timer and no compiled code of one is
 * paid for by another. They take turns in short rounds, so that whatever else the machine does meets all of them, and a
 * round is compared with that of `off` beside it. How well a process happens to be compiled stays with it as long as it
 * lives; so all of them are started anew several times. What is printed is the median of these generations' medians; and
 * the least and the greatest of them, between which the true one is with 94 % (1 - 2/2^5, for five of them). `again` is
 * `off` once more: what differs there is chance, and what differs less elsewhere cannot be told from it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type BenchOptions, type Print, round } from "./harness.ts";
import { type FromSide, type Mode, MODES, type SideOptions, type ToSide } from "./telemetry-side.ts";

const GENERATIONS = 5;
const ROUND_S = 0.4;
/**
 * So many asks are made before any counts: what happens rarely (a trace of a hundred) is compiled late, and while it is,
 * compiling it costs as much as it does. With all traces it is soon.
 */
const WARM_ASKS = 600_000;
const WARM_ASKS_ALL = 100_000;
const modes = Object.keys(MODES) as Mode[];

interface Side {
  readonly mode: Mode;
  readonly child: ChildProcess;
}

/** Of one mode, by round and generation. */
interface Found {
  readonly per_s: number[][];
  readonly cpu_us: number[][];
  spans: number;
}

export async function telemetryCost(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000, seconds } = options;
  const found = Object.fromEntries(
    modes.map((mode) => [mode, { per_s: [], cpu_us: [], spans: 0 }]),
  ) as unknown as Record<Mode, Found>;
  const rounds = Math.max(2, Math.round(seconds / GENERATIONS / ROUND_S));
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const sides: Side[] = [];
    try {
      for (const mode of modes) sides.push(await open({ mode, bench: options, inFlight, keys }));
      for (const side of sides)
        for (let asks = 0; asks < (side.mode === "all" ? WARM_ASKS_ALL : WARM_ASKS); )
          asks += (await measure(side, ROUND_S)).count;
      for (const mode of modes) {
        found[mode].per_s.push([]);
        found[mode].cpu_us.push([]);
      }
      for (let n = 0; n < rounds; n++) {
        // Another one first in every round.
        for (let at = 0; at < sides.length; at++) {
          const side = sides[(n + generation + at) % sides.length] as Side;
          const { per_s, cpu_us, spans } = await measure(side, ROUND_S);
          const of = found[side.mode];
          of.per_s.at(-1)?.push(per_s);
          of.cpu_us.at(-1)?.push(cpu_us);
          if (n === rounds - 1) of.spans += spans;
        }
      }
      for (const side of sides) await end(side);
    } finally {
      for (const { child } of sides) child.kill("SIGKILL");
    }
  }
  const { off } = found;
  for (const mode of modes) {
    const { per_s, cpu_us, spans } = found[mode];
    const ratio = ratios(per_s, off.per_s);
    const cpu = ratios(cpu_us, off.cpu_us);
    print({
      name: "telemetry",
      store: options.store,
      ...(options.store === "memory" ? {} : { durability: options.durability }),
      in_flight: inFlight,
      keys,
      mode,
      per_s: Math.round(median(per_s.flat())),
      cpu_us: round(median(cpu_us.flat()), 2),
      spans,
      ...named("ratio", ratio),
      ...named("cpu_ratio", cpu),
      ratio_to: "off",
    });
  }
}

/** The median of the generations' median ratios, and the least and the greatest of these. */
function ratios(of: readonly number[][], to: readonly number[][]): [number, number, number] {
  const medians = of.map((generation, g) =>
    median(generation.map((value, n) => value / (to[g]?.[n] as number))),
  );
  return [median(medians), Math.min(...medians), Math.max(...medians)];
}

function named(
  name: string,
  [middle, least, most]: [number, number, number],
): Record<string, number | string> {
  return { [name]: round(middle, 3), [`${name}_range`]: `${least.toFixed(3)}-${most.toFixed(3)}` };
}

async function open(options: SideOptions): Promise<Side> {
  const file = fileURLToPath(new URL("telemetry-side.js", import.meta.url));
  const child = fork(file, [JSON.stringify(options)], { execArgv: ["--max-semi-space-size=64"] });
  await next(child);
  return { mode: options.mode, child };
}

async function measure({ child }: Side, seconds: number): Promise<FromSide> {
  child.send({ seconds } satisfies ToSide);
  return await next(child);
}

async function end({ child }: Side): Promise<void> {
  const ended = once(child, "exit");
  child.send({ end: true } satisfies ToSide);
  const [code] = (await ended) as [number | null];
  if (code !== 0) throw new Error(`A side ended with code ${code}.`);
}

async function next(child: ChildProcess): Promise<FromSide> {
  const failed = new AbortController();
  const { signal } = failed;
  try {
    return await Promise.race([
      once(child, "message", { signal }).then(([message]) => message as FromSide),
      once(child, "exit", { signal }).then(([code]) => {
        throw new Error(`A side ended with code ${code}.`);
      }),
    ]);
  } finally {
    failed.abort();
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (Number.isInteger(middle)) return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
  return sorted[Math.floor(middle)] as number;
}
