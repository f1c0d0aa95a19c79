/**
 * Recommends packages to packages: who depends on this also depends on that, learnt basket by basket from the packages
 * that are installed here.
 *
 * However often it is started and wherever it is killed: every basket counts once.
 */
import { type Client, type Store, startNode } from "keyturn";
import type { Program, Progress } from "../program.ts";
import { type Advice, adviceFor, hitRates, SHOWN } from "./advice.ts";
import { installedModules, isHeldOut, readBaskets } from "./baskets.ts";
import { adviceText, type Report, reportOf, textOf } from "./report.ts";
import { sell, shelfOf } from "./sell.ts";
import { basket, item } from "./shop.ts";

const HELP = `Recommends npm packages by what is used together: every package is an actor that counts with what it was
chosen, learnt from the dependencies of the packages that are installed here. Run it again, or kill it and run it again:
no basket counts twice.

  node dist/examples/recommend/main.js [--data DIR | --nats HOST:PORT] [--from DIR] [--like NAME,NAME] [--json]

  --like NAME,NAME   recommend what goes with these packages
  --from DIR         another folder node_modules to learn from; those that were learnt before stay
  --data DIR         where the actors live; data/recommend by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "recommend", shared with every node there:
                     keyturn start --nats HOST:PORT --app recommend --actors examples/recommend/shop.ts
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

export interface Learning {
  /** A folder node_modules; the one of this project by default. */
  readonly from?: string | undefined;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** Learns four baskets of five and is tested with the fifth; undefined if it was stopped before. */
export async function learn(
  client: Client,
  { from = installedModules(), signal, progress }: Learning,
): Promise<Report | undefined> {
  const all = await readBaskets(from);
  const heldOut = all.filter(isHeldOut);
  const baskets = all.filter((one) => !isHeldOut(one));
  progress.start(baskets.length, 0, "baskets");
  try {
    await sell(client, baskets, progress.update, signal);
  } finally {
    progress.stop();
  }
  if (signal.aborted) return undefined;
  const shelf = await shelfOf(
    client,
    all.flatMap(({ items }) => items),
  );
  return reportOf(baskets.length, heldOut.length, shelf, hitRates(heldOut, shelf));
}

/** What goes with these items, and which of them nobody has. */
export async function recommend(
  client: Client,
  liked: readonly string[],
): Promise<{ advice: Advice[]; unknown: string[] }> {
  const shelf = await shelfOf(client, liked);
  const known = liked.filter((name) => shelf.has(name));
  const unknown = liked.filter((name) => !shelf.has(name));
  return { advice: adviceFor(known, shelf).slice(0, SHOWN), unknown };
}

/** Runs something beside a node that hosts the shop. */
export async function withNode<T>(store: Store, work: (client: Client) => Promise<T>): Promise<T> {
  const node = await startNode({ actors: [item, basket], store });
  try {
    return await work(node.client);
  } finally {
    await node.stop({ closeStore: false });
  }
}

export const program: Program = {
  app: "recommend",
  help: HELP,
  options: ["from", "like"],
  check({ from, like }) {
    if (from === "") throw new Error("--from needs the name of a folder.");
    if (like !== undefined && namesOf(like).length === 0) throw new Error("--like needs names of packages.");
  },
  run: ({ store, options: { from, like }, signal, progress }) =>
    withNode(store, async (client) => {
      const report = await learn(client, { from, signal, progress });
      if (report === undefined || like === undefined) return report && { json: report, text: textOf(report) };
      const liked = namesOf(like);
      const { advice, unknown } = await recommend(client, liked);
      return { json: { advice, unknown }, text: adviceText(liked, unknown, advice) };
    }),
};

function namesOf(like: string): string[] {
  return [...new Set(like.split(",").map((name) => name.trim()))].filter((name) => name !== "");
}
