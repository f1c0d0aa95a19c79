/** One actor in the dashboard: what if, forks, its mailbox, its children; and pages that have to wait for slow answers. */
import { fromDurablePromise, defineActor, tell } from "keyturn";
import { assign, emit, sendTo, setup } from "xstate";
import { beforeAll, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { faintTexts, type Page } from "./support/browser.ts";
import { Dashboard } from "./support/dashboard.ts";
import { Outside } from "./support/outside.ts";
import { order } from "./support/tracked-order.ts";

const outside = new Outside();

const leg = setup({
  types: { context: {} as { from: string; to: string; km: number } },
}).createMachine({
  id: "leg",
  context: { from: "Bern", to: "Oslo", km: 0 },
  initial: "waiting",
  states: {
    waiting: { on: { go: { target: "driving", actions: assign({ km: 12 }) } } },
    driving: { on: { arrive: "there" } },
    there: { type: "final" },
  },
});
const trip = defineActor({
  type: "trip",
  machine: setup({
    types: {
      context: {} as { note: string; legs: number },
      events: {} as
        | { type: "begin" }
        | { type: "go" }
        | { type: "note"; text: string }
        | { type: "pay" }
        | { type: "end" },
    },
    actors: { leg, weather: outside.promise("weather"), drive: fromDurablePromise(async () => 1) },
  }).createMachine({
    id: "trip",
    context: { note: "", legs: 0 },
    initial: "planned",
    states: {
      planned: {
        on: {
          begin: { target: "underway", actions: assign({ legs: 1 }) },
          note: { actions: assign({ note: ({ event }) => event.text }) },
        },
      },
      underway: {
        invoke: [
          { id: "first", src: "leg" },
          { id: "forecast", src: "weather" },
        ],
        on: {
          go: { actions: sendTo("first", { type: "go" }) },
          pay: { actions: [tell("account/ada", { type: "debit", cents: 900 }), emit({ type: "trip.paid" })] },
          end: "over",
        },
        after: { 3600000: "late" },
      },
      late: {},
      over: { type: "final" },
    },
  }),
});

/** A machine with a context of any size. */
const pad = defineActor({
  type: "pad-with-a-name-that-is-as-long-as-names-of-types-may-be-64-char",
  machine: setup({
    types: {
      context: {} as Record<string, unknown>,
      events: {} as { type: "write"; parts: Record<string, unknown> },
    },
  }).createMachine({
    context: {},
    on: { write: { actions: assign(({ event }) => event.parts) } },
  }),
});

const dashboard = new Dashboard([order, counter, trip, pad]);
const look: Dashboard["look"] = (hash, options) => dashboard.look(hash, options);
const shot: Dashboard["shot"] = (page, name) => dashboard.shot(page, name);
let node: Dashboard["node"];

beforeAll(() => {
  ({ node } = dashboard);
});

const lit = (page: Page, within = ".chart-card"): Promise<string[]> =>
  page
    .locator(`${within} [data-lit]`)
    .evaluateAll((states) => states.map((one) => one.getAttribute("data-state") ?? "").filter(Boolean));

describe("what if", () => {
  it("events are put to the state after a turn: what they would do is drawn, and nothing happens", async () => {
    const ref = node.client.actor(trip, "rome");
    await ref.send({ type: "note", text: "by train" });
    await ref.send({ type: "note", text: "by night" });
    await ref.send({ type: "begin" });
    const page = await look("#/actors/trip/rome?turn=2");
    await page.waitForSelector('[data-detail="2"]');
    await page.getByRole("button", { name: "What if" }).click();
    const panel = page.getByRole("region", { name: "What if" });
    await panel.getByText("after turn 2").waitFor();
    expect(await lit(page)).toEqual(["planned"]);
    await page.locator("#event-type").selectOption("begin");
    await page.getByRole("button", { name: "What if?" }).click();
    await panel.locator('[data-imagined="0"]').waitFor();
    expect(await lit(page)).toEqual(["underway"]);
    expect(await panel.innerText()).toMatch(/planned[\s\S]*underway[\s\S]*legs[\s\S]*0[\s\S]*1/);
    expect(await panel.innerText()).toContain("would begin forecast");
    await page.locator("#event-type").selectOption("pay");
    await page.getByRole("button", { name: "What if?" }).click();
    await panel.locator('[data-told="account/ada"]').waitFor();
    expect(await panel.innerText()).toMatch(
      /would tell account\/ada[\s\S]*debit[\s\S]*would emit[\s\S]*trip\.paid/,
    );
    await page.locator('input[name="after"]').fill("2 hours");
    await page.getByRole("button", { name: "Pass", exact: true }).click();
    await panel.locator('[data-step="2"]').waitFor();
    expect(await lit(page)).toEqual(["late"]);
    expect(await panel.locator('[data-step="2"]').innerText()).toMatch(
      /after 1 h in underway[\s\S]*late[\s\S]*\+1 h/,
    );
    await shot(page, "what-if");
    // Any step can be looked at, and taken out.
    await panel.locator('[data-step="0"] button').click();
    expect(await lit(page)).toEqual(["underway"]);
    await page.getByRole("button", { name: "Take out 1" }).click();
    await panel.locator('[data-step="0"]', { hasText: "planned" }).waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await page.waitForSelector('[data-detail="2"]');
    expect(await ref.get()).toMatchObject({ turn: 3, value: "underway", context: { note: "by night" } });
    expect(await node.deadLetters()).toEqual([]);
  });

  it("a refused event says why, and an event that is wrong is named", async () => {
    await node.client.actor(order, "if").send({ type: "place", customer: "ada", cents: 500 });
    const page = await look("#/actors/order/if");
    await page.waitForSelector('[data-detail="1"]');
    await page.keyboard.press("w");
    const panel = page.getByRole("region", { name: "What if" });
    await page.locator("#event-type").selectOption("pay");
    await page.getByLabel("cents").fill('"five"');
    await page.getByRole("button", { name: "What if?" }).click();
    await panel.getByText("invalid_event").first().waitFor();
    await page.getByLabel("cents").fill("500");
    await page.getByRole("button", { name: "What if?" }).click();
    await panel.locator('[data-step="1"]').waitFor();
    expect(await lit(page)).toEqual(["open", "open.paid"]);
    await page.locator('input[name="after"]').fill("soon");
    await page.getByRole("button", { name: "Pass", exact: true }).click();
    await panel.getByRole("alert").waitFor();
    await shot(page, "what-if-refused");
    expect((await node.client.actor(order, "if").get()).turn).toBe(1);
  });

  it("goes on for real in a sandbox, which begins with the turn and is sent the events", async () => {
    const ref = node.client.actor(trip, "oslo");
    await ref.send({ type: "note", text: "a" });
    await ref.send({ type: "begin" });
    const page = await look("#/actors/trip/oslo?turn=1");
    await page.waitForSelector('[data-detail="1"]');
    await page.getByRole("button", { name: "What if" }).click();
    await page.locator("#event-type").selectOption("note");
    await page.locator('textarea[name="rest"]').fill('{"text": "another"}');
    await page.getByRole("button", { name: "What if?" }).click();
    await page.locator('[data-imagined="0"]').waitFor();
    await page.getByRole("region", { name: "What if" }).getByRole("button", { name: "Fork" }).click();
    const dialog = page.getByRole("dialog");
    expect(await dialog.getByLabel("Its key").inputValue()).toBe("oslo-fork-1");
    await shot(page, "fork");
    await dialog.getByLabel("Its key").fill("oslo");
    await dialog.getByRole("button", { name: "Fork" }).click();
    await dialog.getByRole("alert").waitFor();
    await dialog.getByLabel("Its key").fill("oslo/sandbox 1");
    await dialog.getByRole("button", { name: "Fork" }).click();
    await page.waitForURL(/oslo%2Fsandbox%201$/);
    await page.waitForSelector('[data-detail="2"]');
    expect(await node.client.actor(trip, "oslo/sandbox 1").get()).toMatchObject({
      value: "planned",
      context: { note: "another" },
      turn: 2,
    });
    expect((await ref.get()).turn).toBe(2);
  });
});

describe("what waits and what works", () => {
  it("the mailbox says what was invoked and is not done, and children are drawn where they stand", async () => {
    const ref = node.client.actor(trip, "paris");
    await ref.send({ type: "begin" });
    const page = await look("#/actors/trip/paris");
    const mailbox = page.getByRole("region", { name: "Mailbox" });
    await mailbox.locator('[data-invocation="forecast"]').waitFor();
    expect(await mailbox.innerText()).toMatch(/empty[\s\S]*weather[\s\S]*promise/);
    const child = page.locator('[data-child="first"]');
    await child.locator('[data-state="waiting"][data-lit]').waitFor();
    expect(await page.locator('[data-child="forecast"]').innerText()).toMatch(/forecast\s+weather\s+at work/);
    await ref.send({ type: "go" });
    await child.locator('[data-state="driving"][data-lit]').waitFor();
    expect(await child.innerText()).toMatch(/km\D+12/);
    await shot(page, "children");
    // As they stood then.
    await page.getByRole("button", { name: "Turn before" }).click();
    await child.locator('[data-state="waiting"][data-lit]').waitFor();
    await page.keyboard.press("l");
    outside.resolve("weather", "fair");
    await mailbox.locator('[data-invocation="forecast"]').waitFor({ state: "detached" });
  });

  it("messages that wait are told with their types, until they have had their turn", async () => {
    const ref = node.client.actor(counter, "busy");
    await ref.send({ type: "add", by: 1 });
    const page = await look("#/actors/counter/busy");
    await page.locator('[data-depth="0"]').waitFor();
    const many = (n: number, event: { type: "on" } | { type: "add"; by: number }): Promise<void>[] =>
      Array.from({ length: n }, () => ref.send(event));
    dashboard.store.appendGate.close();
    const add = { type: "add", by: 1 } as const;
    const sent = [...many(1, add), ...many(30, { type: "on" }), ...many(400, add)];
    await page.locator('[data-depth="431"]').waitFor();
    const mailbox = page.getByRole("region", { name: "Mailbox" });
    const row = mailbox.locator('[data-waiting="on"][data-many="30"]');
    expect(await row.innerText()).toMatch(/on[\s\S]*× 30[\s\S]*from a client[\s\S]*being written/);
    expect(await page.locator("[data-waiting]").count()).toBe(3);
    expect(await mailbox.innerText()).toMatch(/The first has waited for[\s\S]*And 175 more/);
    await shot(page, "mailbox");
    dashboard.store.appendGate.open();
    await Promise.all(sent);
    await page.locator('[data-depth="0"]').waitFor();
    expect(await page.locator("[data-waiting]").count()).toBe(0);
  });

  it("what another actor told an actor that cannot be read is put off, and said to be", async () => {
    dashboard.store.failsToRead = (id) => id === "counter.audit";
    const ref = node.client.actor(order, "called-off");
    await ref.send({ type: "place", customer: "ada", cents: 1 });
    await ref.send({ type: "cancel", reason: "stock" });
    const page = await look("#/actors/counter/audit");
    const row = page.locator('[data-waiting="nonsense"]');
    await row.waitFor();
    expect(await row.innerText()).toMatch(/from another actor/);
    await page.locator('[data-waiting="nonsense"]', { hasText: /put off|until the actor is read/ }).waitFor();
    await shot(page, "mailbox-put-off");
    dashboard.store.failsToRead = () => false;
    await row.waitFor({ state: "detached" });
  });
});

describe("a long past", () => {
  it("any of 10,000 turns is one question away", async () => {
    const ref = node.client.actor(counter, "long");
    for (let n = 0; n < 10; n++)
      await Promise.all(Array.from({ length: 1_000 }, () => ref.send({ type: "add", by: 1 })));
    const page = await look("#/actors/counter/long");
    await page.waitForSelector('[data-detail="10000"]');
    const asked: string[] = [];
    page.on("request", (request) => {
      if (request.url().includes("/history")) asked.push(request.url());
    });
    for (const turn of [5_000, 2, 9_000, 1]) {
      asked.length = 0;
      await page.locator('input[name="turn"]').fill(String(turn));
      await page.waitForSelector(`[data-detail="${turn}"]`);
      expect(await page.locator("[data-context]").innerText()).toMatch(new RegExp(`count ${turn}$`));
      expect(asked.length).toBeLessThanOrEqual(1);
    }
    // What lies beside it is there already.
    asked.length = 0;
    await page.locator('input[name="turn"]').fill("5010");
    await page.waitForSelector('[data-detail="5010"]');
    expect(asked).toEqual([]);
    // The list has followed.
    await expect.poll(() => page.evaluate(isRowInView)).toBe(true);
    await shot(page, "long");
  });
});

describe("counts that take long", () => {
  it("are said to be counted, hold nothing up, and the last one stays", async () => {
    await node.client.actor(counter, "counted").send({ type: "add", by: 1 });
    const page = await dashboard.look("#/dead");
    let mode: "slow" | "late" | "well" = "slow";
    const held: (() => void)[] = [];
    await page.route("**/types/*/count", async (route) => {
      if (mode === "slow") await new Promise<void>((resolve) => held.push(resolve));
      if (mode === "late")
        await route.fulfill({
          status: 504,
          contentType: "application/problem+json",
          json: { code: "timeout", status: 504, retryable: true, detail: "It took too long." },
        });
      else await route.continue();
    });
    await page.goto(`${dashboard.server.url}/dashboard/#/`);
    const card = page.locator('[data-type="counter"]');
    await card.getByText("counting…").waitFor();
    await page.waitForSelector('[data-owner="amber"]');
    expect(await page.getByRole("alert").count()).toBe(0);
    await shot(page, "counting");
    mode = "late";
    for (const release of held) release();
    // Not an error either: it is being counted still.
    await page.waitForResponse((response) => response.status() === 504);
    await card.getByText("counting…").waitFor();
    expect(await page.getByRole("alert").count()).toBe(0);
    mode = "well";
    const total = card.locator("[data-total]");
    await total.waitFor();
    await card.getByText("counting…").waitFor({ state: "detached" });
    const before = await total.innerText();
    mode = "late";
    await page.waitForResponse((response) => response.status() === 504);
    await card.getByText("counting…").waitFor();
    expect(await total.innerText()).toBe(before);
    await shot(page, "counting-again");
  });
});

describe("whatever is shown", () => {
  const key = `${"a-very-long-key-without-any-break".repeat(4)}/und:so weiter`;
  const sizes = [
    { viewport: { width: 1_280, height: 900 } },
    { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true },
  ] as const;

  it.each(sizes)("nothing is wider than a screen of $viewport.width", async (size) => {
    const parts = {
      ...Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`part${n}`, n])),
      text: "Lorem".repeat(400),
      url: `https://example.com/${"path/".repeat(40)}`,
      deep: { er: { and: { deeper: { still: Array.from({ length: 100 }, (_, n) => ({ n })) } } } },
      when: new Date(0),
    };
    const ref = node.client.actor(pad, key);
    await ref.send({ type: "write", parts });
    await ref.send({ type: "write", parts: { ...parts, text: "Ipsum".repeat(400), part1: "changed" } });
    await node.store.deadLetters.put([
      {
        position: 8_000_001,
        index: 0,
        type: pad.type,
        key,
        event: { type: "write", parts: { text: "x".repeat(3_000) } },
        time: 0,
        code: "machine_failed",
        reason: `It threw ${"and threw ".repeat(60)}${"x".repeat(300)}`,
      },
    ]);
    const page = await look("", size);
    const address = `#/actors/${pad.type}/${encodeURIComponent(key)}`;
    for (const [hash, ready] of [
      [`#/types/${pad.type}`, "tr[data-key]"],
      [address, "[data-detail]"],
      ["#/dead", ".letter"],
    ] as const) {
      await page.goto(`${dashboard.server.url}/dashboard/${hash}`);
      await page.waitForSelector(ready);
      await shot(page, `long-${size.viewport.width}-${hash.split("/")[1]}`);
      expect(await page.locator("html").evaluate((html) => html.scrollWidth)).toBe(size.viewport.width);
    }
    await page.goto(`${dashboard.server.url}/dashboard/${address}`);
    await page.waitForSelector("[data-detail]");
    await page.waitForSelector('.changes [data-path="part1"]');
    // Another Date, but the same.
    expect(await page.locator('.changes [data-path="when"]').count()).toBe(0);
    expect(await page.locator("[data-context]").innerText()).toMatch(/part39[\s\S]*24 more/);
    await page.getByRole("button", { name: "What if" }).click();
    await page.getByRole("button", { name: "What if?" }).click();
    await page.waitForSelector('[data-imagined="0"]');
    await shot(page, `long-${size.viewport.width}-what-if`);
    expect(await page.locator("html").evaluate((html) => html.scrollWidth)).toBe(size.viewport.width);
    await page.getByRole("region", { name: "What if" }).getByRole("button", { name: "Fork" }).click();
    await shot(page, `long-${size.viewport.width}-fork`);
    expect(await page.locator("html").evaluate((html) => html.scrollWidth)).toBe(size.viewport.width);
  });

  it("texts can be read: contrast of at least 4.5 in light and dark, in every view", async () => {
    const ref = node.client.actor(trip, "contrast");
    await ref.send({ type: "begin" });
    await ref.send({ type: "go" });
    for (const colorScheme of ["light", "dark"] as const) {
      const page = await look("", { colorScheme });
      for (const [hash, ready] of [
        ["#/", '[data-type="trip"] [data-state]'],
        ["#/types/trip", "tr[data-key]"],
        ["#/actors/trip/contrast?turn=1", '[data-detail="1"]'],
        ["#/dead", ".letter"],
      ] as const) {
        await page.goto(`${dashboard.server.url}/dashboard/${hash}`);
        await page.waitForSelector(ready);
        await shot(page, `${colorScheme}-${hash.split("/")[1]?.split("?")[0] || "cluster"}`);
        expect(await page.evaluate(faintTexts), `${colorScheme} ${hash}`).toEqual([]);
      }
      await page.goto(`${dashboard.server.url}/dashboard/#/actors/trip/contrast`);
      await page.waitForSelector('[data-detail="2"]');
      await page.keyboard.press("w");
      await page.locator("#event-type").selectOption("pay");
      await page.getByRole("button", { name: "What if?" }).click();
      await page.waitForSelector('[data-imagined="0"]');
      await shot(page, `${colorScheme}-what-if`);
      expect(await page.evaluate(faintTexts), `${colorScheme} what if`).toEqual([]);
    }
  });
});

/** Runs in the page: whether the list of turns shows the one that is looked at. */
const isRowInView = `(() => {
  const [row, list] = [".turns [aria-current]", ".turns"].map((one) => document.querySelector(one)?.getBoundingClientRect());
  return row !== undefined && row.top >= list.top && row.bottom <= list.bottom;
})()`;
