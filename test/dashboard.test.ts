/** The dashboard in a real browser, against real nodes: what is seen, live, and what can be done with it. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { defineActor, type KeyturnNode, memory, startNode, type Store, tell } from "keyturn";
import { type HttpServer, serveHttp } from "keyturn/http";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import { z } from "zod";
import { counter } from "../actors/index.ts";
import { countOf, groundOf, openPage, type Page, type Shown, startBrowser } from "./support/browser.ts";

const order = defineActor({
  type: "order",
  index: ["customer"],
  events: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("place"),
      customer: z.string(),
      cents: z.number().int(),
      express: z.boolean().optional(),
    }),
    z.object({ type: z.literal("pay"), cents: z.number() }),
    z.object({ type: z.literal("ship") }),
    z.object({ type: z.literal("scan"), place: z.string() }),
    z.object({ type: z.literal("sign") }),
    z.object({ type: z.literal("hold") }),
    z.object({ type: z.literal("resume") }),
    z.object({ type: z.literal("cancel"), reason: z.enum(["customer", "stock"]) }),
  ]),
  machine: setup({
    types: {
      context: {} as { customer: string; due: number; paid: number; seen: readonly string[] },
      events: {} as
        | { type: "place"; customer: string; cents: number; express?: boolean }
        | { type: "pay"; cents: number }
        | { type: "ship" }
        | { type: "scan"; place: string }
        | { type: "sign" }
        | { type: "hold" }
        | { type: "resume" }
        | { type: "cancel"; reason: "customer" | "stock" },
    },
    guards: { isPaid: ({ context }) => context.paid >= context.due },
    actions: {
      take: assign({
        paid: ({ context, event }) => context.paid + (event.type === "pay" ? event.cents : 0),
      }),
      see: assign({
        seen: ({ context, event }) => (event.type === "scan" ? [...context.seen, event.place] : context.seen),
      }),
    },
    delays: { patience: 3_600_000 },
  }).createMachine({
    id: "order",
    initial: "new",
    context: { customer: "", due: 0, paid: 0, seen: [] },
    states: {
      new: {
        on: {
          place: {
            target: "open",
            actions: assign({ customer: ({ event }) => event.customer, due: ({ event }) => event.cents }),
          },
        },
      },
      open: {
        initial: "unpaid",
        on: {
          cancel: { target: "cancelled", actions: tell("counter/audit", { type: "nonsense" }) },
          hold: "held",
        },
        states: {
          unpaid: {
            on: { pay: { actions: "take" } },
            always: { guard: "isPaid", target: "paid" },
            after: { patience: "#order.cancelled" },
          },
          paid: { on: { ship: "#order.underway" } },
          back: { type: "history" },
        },
      },
      held: { on: { resume: "open.back" } },
      underway: {
        type: "parallel",
        onDone: "delivered",
        states: {
          parcel: {
            initial: "moving",
            states: {
              moving: { on: { scan: { actions: "see" }, sign: "handed" } },
              handed: { type: "final" },
            },
          },
          bill: {
            initial: "due",
            states: { due: { after: { 60000: "settled" } }, settled: { type: "final" } },
          },
        },
      },
      delivered: { type: "final" },
      cancelled: { type: "final" },
    },
  }),
});

const SHOTS = process.env.DASHBOARD_SHOTS;
let browser: Browser;
let store: Store;
let node: KeyturnNode;
let server: HttpServer;
const shown: Shown[] = [];

beforeAll(async () => {
  execFileSync(process.execPath, [join(import.meta.dirname, "..", "runtime", "dashboard", "build.mjs")]);
  store = memory();
  node = await nodeNamed("amber");
  server = await serveHttp(node, { listen: "127.0.0.1:0" });
  browser = await startBrowser();
  if (SHOTS !== undefined) mkdirSync(SHOTS, { recursive: true });
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
  await node?.stop();
});

afterEach(async () => {
  // A refusal that was asked for is named in the console by the browser itself.
  const complaints = shown
    .flatMap((one) => [...one.complaints])
    .filter((text) => !/responded with a status of 422/.test(text));
  for (const one of shown.splice(0)) await one.close();
  expect(complaints).toEqual([]);
});

function nodeNamed(name: string): Promise<KeyturnNode> {
  const settings = { lease_ms: 900, heartbeat_ms: 150 };
  return startNode({
    actors: [order, counter],
    store,
    name,
    shards: 64,
    settings,
    observer: { troubled: () => undefined },
  });
}

async function look(hash: string, options?: BrowserContextOptions): Promise<Page> {
  const one = await openPage(browser, `${server.url}/dashboard/${hash}`, options);
  shown.push(one);
  return one.page;
}

async function shot(page: Page, name: string): Promise<void> {
  if (SHOTS !== undefined) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}

/** An order that has taken six turns and is under way. */
async function underway(key: string): Promise<void> {
  const ref = node.client.actor(order, key);
  await ref.send({ type: "place", customer: "ada", cents: 4_900 });
  await ref.send({ type: "pay", cents: 2_000 });
  await ref.send({ type: "hold" });
  await ref.send({ type: "resume" });
  await ref.send({ type: "pay", cents: 2_900 });
  await ref.send({ type: "ship" });
}

const lit = (page: Page): Promise<string[]> =>
  page
    .locator("[data-lit]")
    .evaluateAll((states) => states.map((one) => one.getAttribute("data-state") ?? ""));

describe("the cluster", () => {
  it("shows nodes and their shards, and the shards move when a node is killed", async () => {
    const page = await look("");
    await page.waitForSelector('[data-node="amber"]');
    await countOf(page, '[data-owner="amber"]', (n) => n === 64);
    const second = await nodeNamed("birch");
    const owned = (name: string): Promise<number> => page.locator(`[data-owner="${name}"]`).count();
    await countOf(page, '[data-owner="birch"]', (n) => n > 20);
    expect(await owned("amber")).toBeLessThan(44);
    await shot(page, "cluster");
    second.kill();
    await page.waitForSelector('[data-node="birch"][data-gone="true"]');
    await countOf(page, '[data-owner="amber"]', (n) => n === 64);
    await shot(page, "cluster-killed");
  });

  it("counts actors of each type by state as they change", async () => {
    await node.client.actor(order, "count-1").send({ type: "place", customer: "bob", cents: 100 });
    const page = await look("");
    const row = page.locator('[data-type="order"] [data-state="open.unpaid"]');
    await row.waitFor();
    const before = Number(await row.getAttribute("data-count"));
    await node.client.actor(order, "count-2").send({ type: "place", customer: "bob", cents: 100 });
    await page.waitForSelector(`[data-type="order"] [data-state="open.unpaid"][data-count="${before + 1}"]`);
    await page.locator('[data-type="order"] h3 a').click();
    await page.waitForSelector('svg [data-state="open.unpaid"] .count.some');
    await shot(page, "type");
  });
});

describe("the actors of a type", () => {
  it("are found by key, state and index, a page at a time", async () => {
    await Promise.all(
      Array.from({ length: 130 }, (_, n) =>
        node.client.actor(counter, `c${String(n).padStart(3, "0")}`).send({ type: "add", by: n }),
      ),
    );
    await node.client.actor(order, "find-me").send({ type: "place", customer: "grace", cents: 1 });
    const page = await look("#/types/counter");
    const keys = page.locator("tr[data-key]");
    await page.waitForSelector('tr[data-key="c000"]');
    expect(await keys.count()).toBe(50);
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('tr[data-key="c050"]');
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('tr[data-key="c129"]');
    expect(await page.getByRole("button", { name: "Next" }).isDisabled()).toBe(true);
    await page.getByLabel("Key begins with").fill("c07");
    await countOf(page, "tr[data-key]", (n) => n === 10);
    await page.goto(`${server.url}/dashboard/#/types/order`);
    await page.getByLabel("Where", { exact: true }).fill("customer=grace");
    await countOf(page, "tr[data-key]", (n) => n === 1);
    await page.getByRole("link", { name: "find-me" }).click();
    await page.waitForSelector('svg [data-state="open"][data-lit]');
  });
});

describe("an actor", () => {
  it("is drawn with its current states lit, live, and any turn of its past can be looked at", async () => {
    await underway("drawn");
    const page = await look("#/actors/order/drawn");
    await page.waitForSelector('[data-state="underway.bill.due"][data-lit]');
    expect(await lit(page)).toEqual([
      "",
      "underway",
      "underway.parcel",
      "underway.parcel.moving",
      "underway.bill",
      "underway.bill.due",
    ]);
    await page.waitForSelector('[data-detail="6"]');
    await page.waitForSelector(".timers .due");
    await shot(page, "actor");
    await page.getByRole("button", { name: "Turn before" }).click();
    await page.waitForSelector('[data-detail="5"]');
    expect(await lit(page)).toEqual(["", "open", "open.paid"]);
    expect(await page.locator('.changes [data-path="paid"]').innerText()).toMatch(/2000\s+4900/);
    expect(await page.locator("[data-context]").innerText()).toMatch(/paid 4900/);
    await shot(page, "actor-past");
    await page.locator('input[name="turn"]').fill("1");
    await page.waitForSelector('[data-detail="1"]');
    expect(await lit(page)).toEqual(["", "open", "open.unpaid"]);
    await page.getByRole("button", { name: "Back to now" }).first().click();
    await node.client.actor(order, "drawn").send({ type: "sign" });
    await page.waitForSelector('[data-state="underway.parcel.handed"][data-lit]');
    await page.waitForSelector('[data-detail="7"]');
  });

  it("shows turns that are far from the newest", async () => {
    const ref = node.client.actor(counter, "long");
    for (let n = 0; n < 30; n++)
      await Promise.all(Array.from({ length: 20 }, () => ref.send({ type: "add", by: 1 })));
    const page = await look("#/actors/counter/long?turn=310");
    await page.waitForSelector('[data-detail="310"]');
    expect(await page.locator(".changes").innerText()).toMatch(/309\s+310/);
    await page.locator('input[name="turn"]').fill("2");
    await page.waitForSelector('[data-detail="2"]');
  });

  it("is asked and sent events by forms made from its schema", async () => {
    const page = await look("#/actors/order/asked");
    await page.getByLabel("customer").fill("ada");
    await page.getByLabel("cents").fill("1200");
    await page.getByRole("button", { name: "Ask" }).click();
    await page.waitForSelector('[data-state="open.unpaid"][data-lit]');
    expect((await node.client.actor(order, "asked").get()).context).toMatchObject({
      customer: "ada",
      due: 1_200,
    });
    await page.locator("#event-type").selectOption("pay");
    await page.getByLabel("cents").fill("no number");
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await page.waitForSelector(".event-form .trouble");
    await page.getByLabel("cents").fill("1200");
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await page.waitForSelector('[data-state="open.paid"][data-lit]');
    await shot(page, "asked");
  });

  it("is deleted when that was meant", async () => {
    await node.client.actor(counter, "unwanted").send({ type: "add", by: 5 });
    const page = await look("#/actors/counter/unwanted");
    await page.getByRole("button", { name: "Delete" }).click();
    await shot(page, "delete");
    await page.getByRole("dialog").getByRole("button", { name: "Keep" }).click();
    expect((await node.client.actor(counter, "unwanted").get()).turn).toBe(1);
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.waitForURL(/#\/types\/counter/);
    expect((await node.client.actor(counter, "unwanted").get()).context).toMatchObject({ count: 0 });
  });
});

it("dead letters are shown, with why, and can be sent again", async () => {
  const ref = node.client.actor(order, "cancelled");
  await ref.send({ type: "place", customer: "ada", cents: 1 });
  await ref.send({ type: "cancel", reason: "stock" });
  const page = await look("#/dead");
  const letter = page.locator("[data-letter]").first();
  await letter.waitFor();
  expect(await letter.innerText()).toMatch(/counter\/audit[\s\S]*invalid_event[\s\S]*nonsense/);
  await shot(page, "dead");
  const asked = page.waitForRequest((request) => request.method() === "POST");
  await letter.getByRole("button", { name: "Send again" }).click();
  expect((await asked).postDataJSON()).toEqual({ type: "nonsense" });
  await letter.getByRole("status").waitFor();
});

describe("how it looks", () => {
  it("is usable on a phone: nothing is wider than the screen", async () => {
    await underway("phone");
    for (const [hash, ready] of [
      ["", '[data-type="order"] [data-state]'],
      ["#/types/order", "tr[data-key]"],
      ["#/actors/order/phone", '[data-detail="6"]'],
      ["#/dead", "h1"],
    ] as const) {
      const page = await look(hash, {
        viewport: { width: 375, height: 740 },
        hasTouch: true,
        isMobile: true,
      });
      await page.waitForSelector(ready);
      await shot(page, `phone-${hash.split("/")[1] ?? "cluster"}`);
      expect(await page.locator("html").evaluate((html) => html.scrollWidth)).toBe(375);
    }
  });

  it("is dark for who has chosen that, on the system or here", async () => {
    await underway("dark");
    const page = await look("#/actors/order/dark", { colorScheme: "dark" });
    const ground = (): Promise<number> => groundOf(page);
    await page.waitForSelector('[data-detail="6"]');
    expect(await ground()).toBeLessThan(60);
    await shot(page, "dark");
    await page.getByRole("button", { name: "Theme" }).click();
    expect(await ground()).toBeGreaterThan(200);
    await page.reload();
    await page.waitForSelector("main");
    expect(await ground()).toBeGreaterThan(200);
  });

  it("can be used with the keyboard alone", async () => {
    await underway("keys");
    const page = await look("");
    await page.waitForSelector("h1");
    await page.keyboard.press("/");
    await page.keyboard.type("order/keys");
    await page.keyboard.press("Enter");
    await page.waitForSelector('[data-detail="6"]');
    await page.keyboard.press("[");
    await page.waitForSelector('[data-detail="5"]');
    await page.locator('input[name="turn"]').focus();
    await page.keyboard.press("ArrowLeft");
    await page.waitForSelector('[data-detail="4"]');
    await page.keyboard.press("l");
    await page.waitForSelector('[data-detail="6"]');
    await page.keyboard.press("?");
    await page.waitForSelector("dialog[open] kbd");
    await page.keyboard.press("Escape");
    await page.waitForSelector("dialog", { state: "detached" });
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.waitForSelector("h1:text('Dead letters')");
  });
});
