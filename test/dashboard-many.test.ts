/**
 * The dashboard where there is much of something: what it asks for, is sent and draws stays bounded.
 *
 * Counted are requests, characters and elements; how long the answers take is measured by `npm run bench -- dashboard`.
 */
import { defineActor } from "keyturn";
import { assign, setup } from "xstate";
import { beforeAll, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { countOf, type Page } from "./support/browser.ts";
import { Dashboard } from "./support/dashboard.ts";
import { parcel } from "./support/parcels.ts";

const MANY = 20_000;
const CHILDREN = 1_000;

const worker = setup({ types: { context: {} as { n: number } } }).createMachine({
  id: "worker",
  context: { n: 0 },
  initial: "idle",
  states: { idle: { on: { go: "busy" } }, busy: { on: { go: "idle" } } },
});
const crowd = defineActor({
  type: "crowd",
  machine: setup({
    types: { context: {} as Record<string, never>, events: {} as { type: "grow"; by: number } },
    actors: { worker },
  }).createMachine({
    context: {},
    on: {
      grow: {
        actions: assign(({ event, spawn }) => {
          for (let n = 0; n < event.by; n++) spawn("worker", { id: `worker-${n}` });
          return {};
        }),
      },
    },
  }),
});

const STATES = 200;
const wide = defineActor({
  type: "wide",
  machine: setup({
    types: { events: {} as { type: "next" } | { type: "skip" } },
  }).createMachine({
    id: "wide",
    initial: "s0",
    states: Object.fromEntries(
      Array.from({ length: STATES }, (_, n) => [
        `s${n}`,
        { on: { next: `s${(n + 1) % STATES}`, skip: `s${(n + 17) % STATES}` } },
      ]),
    ),
  }),
});

/** A machine whose context is as large as a text. */
const page = defineActor({
  type: "page",
  machine: setup({
    types: {
      context: {} as { text: string; writes: number },
      events: {} as { type: "write"; length: number },
    },
  }).createMachine({
    context: { text: "", writes: 0 },
    on: {
      write: {
        actions: assign({
          text: ({ event }) => "x".repeat(event.length),
          writes: ({ context }) => context.writes + 1,
        }),
      },
    },
  }),
});

const dashboard = new Dashboard([parcel, counter, crowd, wide, page]);
const look: Dashboard["look"] = (hash, options) => dashboard.look(hash, options);
const shot: Dashboard["shot"] = (shown, name) => dashboard.shot(shown, name);
let node: Dashboard["node"];

beforeAll(async () => {
  ({ node } = dashboard);
  for (let at = 0; at < MANY; at += 2_000)
    await Promise.all(
      Array.from({ length: 2_000 }, (_, n) => at + n).map((n) =>
        node.client
          .actor(parcel, `p${String(n).padStart(5, "0")}`)
          .send({ type: "pack", owner: n % 2 === 0 ? "ada" : "bob", weight: n }),
      ),
    );
}, 120_000);

interface Traffic {
  readonly path: string;
  readonly length: number;
}

/** What is asked for and was answered from now on, by what the path has in it. */
function trafficOf(shown: Page, part: string): Traffic[] {
  const traffic: Traffic[] = [];
  shown.on("requestfinished", async (request) => {
    const { pathname, search } = new URL(request.url());
    if (!pathname.includes(part)) return;
    const { responseBodySize } = await request.sizes();
    traffic.push({ path: pathname + search, length: responseBodySize });
  });
  return traffic;
}

describe("20,000 actors", () => {
  it("are a page of the list: one question, 50 rows, and never more at once", async () => {
    const shown = await look("#/dead");
    const traffic = trafficOf(shown, "/actors/parcel");
    await shown.goto(`${dashboard.server.url}/dashboard/#/types/parcel`);
    await countOf(shown, "tr[data-key]", (n) => n === 50);
    await expect.poll(() => traffic.length).toBeGreaterThanOrEqual(1);
    for (const { path, length } of traffic) {
      expect(path).toBe("/actors/parcel?limit=50");
      expect(length).toBeLessThan(32_000);
    }
    // The whole page, with the chart and the counts.
    await shown.locator(".total", { hasText: "20,000" }).waitFor();
    expect(await shown.locator("*").count()).toBeLessThan(1_000);
    await shown.locator('input[name="state"]').fill("open");
    await countOf(shown, "tr[data-key]", (n) => n === 50);
    await shown.getByLabel("Where", { exact: true }).fill("weight=19999");
    await countOf(shown, "tr[data-key]", (n) => n === 1);
    await shown.locator('input[name="state"]').fill("under way");
    await shown.getByText("No such actors").waitFor();
    await shot(shown, "many-none");
  });

  it("their counts stand beside the names of the states, not over them", async () => {
    const shown = await look("#/types/parcel");
    const state = shown.locator('svg [data-state="open"]');
    await state.locator(".count", { hasText: "20,000" }).waitFor();
    const [name, counted] = await Promise.all(
      [".name", ".count"].map((part) => state.locator(part).first().boundingBox()),
    );
    expect((name?.x ?? 0) + (name?.width ?? 0)).toBeLessThan(counted?.x ?? 0);
    await shot(shown, "many-type");
  });
});

describe("1,000 children of one actor", () => {
  it("are drawn some at a time, their charts when they are opened, and found by id", async () => {
    await node.client.actor(crowd, "large").send({ type: "grow", by: CHILDREN });
    const shown = await look("#/actors/crowd/large");
    await shown.locator("[data-child]").first().waitFor();
    const children = shown.getByRole("region", { name: "Children" });
    expect(await children.locator("h2").innerText()).toMatch(/1,000/);
    expect(await shown.locator("[data-child]").count()).toBe(50);
    expect(await children.locator("svg").count()).toBe(0);
    expect(await shown.locator("*").count()).toBeLessThan(1_500);
    await children.getByRole("button", { name: "950 more" }).click();
    await countOf(shown, "[data-child]", (n) => n === 250);
    await children.getByLabel("Id contains").fill("worker-777");
    await countOf(shown, "[data-child]", (n) => n === 1);
    await children.locator("summary").click();
    await children.locator('svg [data-state="idle"][data-lit]').waitFor();
    await shot(shown, "many-children");
  });
});

describe("a chart of 200 states", () => {
  it("is a grid whose boxes say where each event leads, with the current one lit", async () => {
    await node.client.actor(wide, "one").send({ type: "skip" });
    const shown = await look("#/actors/wide/one");
    await shown.locator('svg [data-state="s17"][data-lit]').waitFor();
    expect(await shown.locator(".chart-card svg .state").count()).toBe(STATES + 1);
    expect(await shown.locator(".chart-card .arrow").count()).toBe(0);
    expect(await shown.locator('[data-state="s199"] .line').allTextContents()).toEqual([
      "next → s0",
      "skip → s16",
    ]);
    // One that lies far down is in view nevertheless.
    for (let n = 0; n < 10; n++) await node.client.actor(wide, "one").send({ type: "skip" });
    const last = shown.locator('svg [data-state="s187"][data-lit]');
    await last.waitFor();
    await expect.poll(() => last.evaluate(isInFrame)).toBe(true);
    // No box lies over another one.
    const boxes = await shown
      .locator(".chart-card .state:not(.root) > rect:first-of-type")
      .evaluateAll((rects) =>
        rects.map((rect) => ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name)))),
      );
    for (const [n, [x = 0, y = 0, width = 0, height = 0]] of boxes.entries())
      for (const [otherX = 0, otherY = 0] of boxes.slice(n + 1))
        expect(otherX >= x + width || otherX < x || otherY >= y + height || otherY < y).toBe(true);
    await shot(shown, "many-states");
  });
});

/** Whether an element is seen in the chart's frame. */
function isInFrame(element: { closest(selector: string): unknown; getBoundingClientRect(): Rect }): boolean {
  const frame = (element.closest(".chart") as typeof element).getBoundingClientRect();
  const { top, bottom, left, right } = element.getBoundingClientRect();
  return top >= frame.top && bottom <= frame.bottom && left >= frame.left && right <= frame.right;
}

interface Rect {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

describe("large states", () => {
  it("any turn of theirs is shown after few questions, each of them sent compressed", async () => {
    const ref = node.client.actor(page, "large");
    for (let n = 0; n < 60; n++) await ref.send({ type: "write", length: 200_000 });
    const shown = await look("#/actors/page/large");
    await shown.waitForSelector('[data-detail="60"]');
    const traffic = trafficOf(shown, "/history");
    const shows = async (turn: number): Promise<void> => {
      await shown.locator('input[name="turn"]').fill(String(turn));
      await shown.waitForSelector(`[data-detail="${turn}"]`);
      await shown.locator(".changes", { hasText: "writes" }).waitFor();
    };
    await shows(10);
    expect(traffic.length).toBeLessThanOrEqual(2);
    await shows(30);
    expect(traffic.length).toBeLessThanOrEqual(4);
    for (const { length } of traffic) expect(length).toBeLessThan(100_000);
  });
});

describe("an actor that takes turn after turn", () => {
  it("is followed, with far fewer questions than it takes turns", async () => {
    const ref = node.client.actor(counter, "hot");
    await ref.send({ type: "add", by: 1 });
    const shown = await look("#/actors/counter/hot");
    await shown.waitForSelector('[data-detail="1"]');
    const traffic = trafficOf(shown, "/actors/counter/hot/");
    for (let n = 0; n < 1_000; n++) await ref.send({ type: "add", by: 1 });
    await shown.waitForSelector('[data-detail="1001"]');
    expect(await shown.locator("[data-context]").innerText()).toMatch(/count 1001$/);
    expect(traffic.length).toBeLessThan(250);
  });

  it("a past that is dragged over is read where the hand stays", async () => {
    const ref = node.client.actor(counter, "dragged");
    for (let n = 0; n < 5; n++)
      await Promise.all(Array.from({ length: 1_000 }, () => ref.send({ type: "add", by: 1 })));
    const shown = await look("#/actors/counter/dragged");
    await shown.waitForSelector('[data-detail="5000"]');
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const asked: string[] = [];
    await shown.route("**/history*", async (route) => {
      asked.push(route.request().url());
      await held;
      await route.continue();
    });
    for (let n = 1; n <= 30; n++) await shown.locator('input[name="turn"]').fill(String(n * 150));
    expect(asked).toHaveLength(1);
    release();
    await shown.waitForSelector('[data-detail="4500"]');
    expect(asked).toHaveLength(2);
  });

  it("a long past is not wider than a phone, and its numbers are in one line", async () => {
    const viewport = { width: 375, height: 740 };
    const shown = await look("#/actors/counter/dragged?turn=4321", {
      viewport,
      hasTouch: true,
      isMobile: true,
    });
    await shown.waitForSelector('[data-detail="4321"]');
    expect(await shown.locator(".strip button").count()).toBe(240);
    expect(await shown.locator("html").evaluate((page) => page.scrollWidth)).toBe(viewport.width);
    const rows = await shown
      .locator(".turns button")
      .evaluateAll((all) => all.map((row) => row.clientHeight));
    expect(Math.max(...rows)).toBeLessThan(45);
    await shot(shown, "many-turns");
  });
});
