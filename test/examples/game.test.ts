/** Noughts and crosses: its rules, and two windows of a real browser at one table, whose node is killed. */
import type { ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Field, game, type GameEvent } from "../../examples/game/game.ts";
import type { OpenStore } from "../../examples/run.ts";
import { memory, startNode } from "../../runtime/index.ts";
import { testRuntime } from "../../runtime/testing/index.ts";
import { openPage, type Page, type Shown, startBrowser } from "../support/browser.ts";
import { builtPackage } from "../support/build.ts";
import { onBothStores } from "../support/example-stores.ts";
import { runJob, startJob, temporaryFolder } from "../support/main-job.ts";

const SHOTS = process.env.GAME_SHOTS;

describe("the game", () => {
  onBothStores(
    () => memory,
    (open) => {
      it("is decided by the machine, in the order in which clicks arrive", () => played(open));
    },
  );

  it("frees the seats of a table where nothing happens", async () => {
    const t = await testRuntime({ actors: [game] });
    const table = t.client.actor(game, "1");
    const events: GameEvent[] = [
      { type: "sit", player: "ada" },
      { type: "sit", player: "bob" },
      { type: "take", player: "ada", field: 4 },
    ];
    for (const event of events) await table.send(event);
    await t.advance("29 minutes");
    await table.send({ type: "take", player: "bob", field: 0 });
    await t.advance("29 minutes");
    expect((await table.get()).context.seats).toEqual({ x: "ada", o: "bob" });
    await t.advance("2 minutes");
    const { seats, board } = (await table.get()).context;
    expect(seats).toEqual({ x: null, o: null });
    expect(board.every((field: Field) => field === null)).toBe(true);
    await t.stop();
  });
});

describe("in two windows", () => {
  let browser: Browser;
  let program: string;
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let running: ChildProcess | undefined;
  const shown: Shown[] = [];

  beforeAll(async () => {
    program = join(await builtPackage(), "dist/examples/game/main.js");
    folder = await temporaryFolder();
    browser = await startBrowser();
  }, 300_000);

  afterAll(async () => {
    for (const one of shown) await one.close();
    await browser?.close();
    running?.kill("SIGKILL");
    await folder?.remove();
  });

  /** Starts the example; resolves with the page's address. */
  const start = (listen: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const job = startJob(program, "--data", folder.path, "--listen", listen);
      running = job.process;
      let text = "";
      job.process.stdout?.on("data", (piece: string) => {
        text += piece;
        const [, url] = /Open (\S+) in two windows/.exec(text) ?? [];
        if (url !== undefined) resolve(url);
      });
      void job.ended.then(({ code, stderr }) => reject(new Error(`It ended with ${code}: ${stderr}`)));
    });
  const killed = (): Promise<void> =>
    new Promise((resolve) => {
      running?.once("close", () => resolve());
      running?.kill("SIGKILL");
    });
  const look = async (url: string, options = {}): Promise<Page> => {
    const one = await openPage(browser, url, options);
    shown.push(one);
    return one.page;
  };
  const click = (page: Page, field: number): Promise<void> =>
    page.click(`[aria-label^="Field ${field + 1}:"]`);
  const has = (page: Page, field: number, side: string): Promise<unknown> =>
    page.waitForSelector(`[aria-label="Field ${field + 1}: ${side}"]`);

  it("what is clicked in one is seen in the other, also when the node was killed in between", async () => {
    const url = await start("127.0.0.1:0");
    const ada = await look(url);
    const bob = await look(url, { colorScheme: "dark" });
    await ada.click("text=Play");
    await ada.waitForSelector('.says[data-mine="x"]');
    await bob.click("text=Play");
    await bob.waitForSelector('.says[data-mine="o"]');
    await ada.waitForSelector('.says:text("Your turn.")');
    await click(ada, 4);
    await has(bob, 4, "x");
    await bob.waitForSelector('[data-small="table-1"] i.x');
    await click(bob, 0);
    await has(ada, 0, "o");

    await killed();
    for (const page of [ada, bob]) await page.waitForSelector('.table [data-status="reconnecting"]');
    // Clicked while nobody is there: it is done when somebody is.
    await click(ada, 2);
    expect(await start(new URL(url).host)).toBe(url);
    for (const page of [ada, bob]) {
      await has(page, 2, "x");
      await page.waitForSelector('.table [data-status="live"]');
    }
    await click(bob, 3);
    await has(ada, 3, "o");
    await click(ada, 6);
    await ada.waitForSelector('.says:text("You have won.")');
    await bob.waitForSelector('.says:text("× has won.")');
    await bob.waitForSelector('.score:text("1 : 0")');
    if (SHOTS !== undefined) {
      mkdirSync(SHOTS, { recursive: true });
      await ada.screenshot({ path: join(SHOTS, "light.png") });
      await bob.setViewportSize({ width: 390, height: 800 });
      await bob.screenshot({ path: join(SHOTS, "dark-phone.png") });
    }
    const complaints = shown.flatMap((one) => [...one.complaints]);
    expect(complaints.filter((text) => !/ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY/.test(text))).toEqual([]);
    running?.kill("SIGTERM");
    await new Promise((resolve) => running?.once("close", resolve));
    expect(running?.exitCode).toBe(0);
  }, 120_000);

  it("refuses a command line that makes no sense, and says what does", async () => {
    expect(await runJob(program, "--nonsense")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--listen/),
    });
    expect(await runJob(program, "--data", "a", "--nats", "b")).toMatchObject({ code: 2 });
    expect(await runJob(program, "--listen", "nowhere", "--data", folder.path)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/HOST:PORT/),
    });
    expect(await runJob(program, "--help")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/two windows/),
    });
  });
});

async function played(open: OpenStore): Promise<void> {
  const node = await startNode({ actors: [game], store: await open() });
  const table = node.client.actor(game, "1");
  const sit = (player: string) => table.ask({ type: "sit", player });
  expect([await sit("ada"), await sit("bob"), await sit("cleo"), await sit("ada")]).toEqual([
    "x",
    "o",
    null,
    "x",
  ]);
  const take = (player: string, field: number) => table.ask({ type: "take", player, field });
  // Both at once: one is allowed, and it is whose turn it is.
  expect(await Promise.all([take("bob", 4), take("ada", 4), take("ada", 0), take("cleo", 0)])).toEqual([
    false,
    true,
    false,
    false,
  ]);
  for (const [player, field] of [
    ["bob", 0],
    ["ada", 2],
    ["bob", 3],
    ["ada", 6],
  ] as const)
    expect(await take(player, field)).toBe(true);
  expect(await table.get()).toMatchObject({
    value: "won",
    context: { winner: "x", line: [2, 4, 6], score: { x: 1, o: 0 } },
  });
  expect(await take("bob", 8)).toBe(false);
  await table.send({ type: "again" });
  expect(await table.get()).toMatchObject({ value: "playing", context: { next: "o", winner: null } });
  for (const [at, field] of [0, 1, 2, 4, 3, 5, 7, 6, 8].entries())
    expect(await take(at % 2 === 0 ? "bob" : "ada", field)).toBe(true);
  expect(await table.get()).toMatchObject({ value: "drawn", context: { winner: null } });
  await node.stop();
}
