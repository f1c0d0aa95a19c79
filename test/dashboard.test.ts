/** The dashboard in a real browser, against real nodes: what is seen, live, and what can be done with it. */
import { gzipSync } from "node:zlib";
import { createBrowserInspector } from "@statelyai/inspect";
import { build } from "esbuild";
import { SignJWT } from "jose";
import type { KeyturnNode } from "keyturn";
import { serveHttp } from "keyturn/http";
import type { Browser } from "playwright-core";
import { beforeAll, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { countOf, groundOf, openPage, type Page } from "./support/browser.ts";
import { Dashboard } from "./support/dashboard.ts";
import { afterwards, ask, expectProblem } from "./support/http.ts";
import { order } from "./support/tracked-order.ts";

const dashboard = new Dashboard([order, counter]);
const look: Dashboard["look"] = (hash, options) => dashboard.look(hash, options);
const shot: Dashboard["shot"] = (page, name) => dashboard.shot(page, name);
let node: KeyturnNode;
let browser: Browser;
let server: Dashboard["server"];

beforeAll(() => {
  ({ node, browser, server } = dashboard);
});

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
    const second = await dashboard.nodeNamed("birch");
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
    await page.waitForSelector('tr[data-key="c000"]');
    // The list may be drawn anew at this moment.
    await countOf(page, "tr[data-key]", (n) => n === 50);
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('tr[data-key="c050"]');
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('tr[data-key="c129"]');
    expect(await page.getByRole("button", { name: "Next" }).isDisabled()).toBe(true);
    await page.getByLabel("Key begins with").fill("c07");
    await countOf(page, "tr[data-key]", (n) => n === 10);
    await page.goto(`${server.url}/dashboard/#/types/order`);
    const where = page.getByLabel("Where", { exact: true });
    // As on the command line, and as it was written before.
    for (const text of [
      "customer^=gra, customer!=ada",
      'customer=["grace","x"]',
      "customer=eq:grace",
      "customer=grace",
    ]) {
      await where.fill("customer=nobody");
      await countOf(page, "tr[data-key]", (n) => n === 0);
      await where.fill(text);
      await countOf(page, "tr[data-key]", (n) => n === 1);
    }
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

describe("dead letters", () => {
  async function letter(key: string): Promise<void> {
    const ref = node.client.actor(order, key);
    await ref.send({ type: "place", customer: "ada", cents: 1 });
    await ref.send({ type: "cancel", reason: "stock" });
  }

  it("are shown, with why; one that is refused again stays, and says so", async () => {
    await letter("cancelled");
    const page = await look("#/dead");
    const first = page.locator("[data-letter]").first();
    await first.waitFor();
    expect(await first.innerText()).toMatch(/counter\/audit[\s\S]*invalid_event[\s\S]*nonsense/);
    await shot(page, "dead");
    await first.getByRole("button", { name: "Send again" }).click();
    await first.getByText("Refused again: ").waitFor();
    expect(await node.deadLetters()).toHaveLength(1);
    await shot(page, "dead-refused");
  });

  it("are gone once they are taken, or dropped", async () => {
    const put = (seq: number, event: object) => ({
      position: seq,
      index: 0,
      type: "counter",
      key: "late",
      event,
      time: Date.now(),
      code: "machine_failed",
      reason: "It was off.",
    });
    await node.store.deadLetters.put([
      put(9_000_001, { type: "add", by: 4 }),
      put(9_000_002, { type: "add", by: 100 }),
    ]);
    const page = await look("#/dead");
    const row = (id: string) => page.locator(`[data-letter="${id}"]`);
    await row("9000001.0").getByRole("button", { name: "Send again" }).click();
    await page.getByText("1 taken.").waitFor();
    await row("9000001.0").waitFor({ state: "detached" });
    expect((await node.client.actor(counter, "late").get()).context).toEqual({ count: 4 });
    await row("9000002.0").getByRole("button", { name: "Drop" }).click();
    await row("9000002.0").waitFor({ state: "detached" });
    await letter("cancelled-too");
    await page.getByRole("button", { name: "Drop all on this page" }).click();
    await page.getByRole("dialog").waitFor();
    await shot(page, "dead-drop");
    await page.getByRole("dialog").getByRole("button", { name: "Drop", exact: true }).click();
    await page.getByText("None. That is how it should be.").waitFor();
    await shot(page, "dead-none");
    expect(await node.deadLetters()).toEqual([]);
    expect((await node.client.actor(counter, "late").get()).context).toEqual({ count: 4 });
  });
});

it("Stately's inspector, in a window of its own, is told what the actor does", async () => {
  await underway("inspected");
  const page = await look("#/actors/order/inspected");
  // What Stately's page listens with: the receiver of its own package.
  const { outputFiles } = await build({
    stdin: {
      contents: `import { createBrowserReceiver } from "@statelyai/inspect";
        createBrowserReceiver().subscribe(({ type, event, snapshot }) => {
          const line = document.createElement("li");
          line.textContent = [type, event?.type, JSON.stringify(snapshot?.value)].join(" ");
          document.body.append(line);
        });`,
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    write: false,
    platform: "browser",
    format: "iife",
  });
  const body = `<!doctype html><body><script>${outputFiles[0]?.text.replaceAll("</script", "<\\/script")}</script>`;
  await page
    .context()
    .route("https://stately.ai/inspect", (route) => route.fulfill({ contentType: "text/html", body }));
  const opened = page.waitForEvent("popup");
  await page.getByRole("button", { name: "Inspect" }).click();
  const address = `ws://127.0.0.1:${server.port}/actors/order/inspected/inspect`;
  expect(await page.getByRole("dialog").innerText()).toContain(`server: "${address}"`);
  await shot(page, "inspect");
  await page.getByRole("button", { name: "Open stately.ai" }).click();
  const inspector = await opened;
  // The address at which the package's own inspector opens it.
  const opens: unknown[] = [];
  const window = { open: (url: unknown) => void opens.push(url), addEventListener: () => undefined };
  createBrowserInspector({ window: window as never });
  expect(opens).toEqual([inspector.url()]);
  await inspector.getByText('@xstate.snapshot ship {"underway"').waitFor();
  expect(await inspector.locator("li").first().innerText()).toMatch(/^@xstate\.actor/);
  await node.client.actor(order, "inspected").send({ type: "scan", place: "Bern" });
  await inspector.getByText("@xstate.event scan").waitFor();
});

it("the page is small, needs nothing from elsewhere, and is not there if it is not wanted", async () => {
  const { body, headers } = await ask(server.url, "GET", "/dashboard/");
  expect(headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(body).not.toMatch(/(src|href)="(https?:)?\/\//);
  const script = await ask(server.url, "GET", "/dashboard/app.js");
  expect(gzipSync(script.body).length).toBeLessThan(48_000);
  const etag = script.headers.get("etag") as string;
  const again = await ask(server.url, "GET", "/dashboard/app.js", { headers: { "if-none-match": etag } });
  expect([again.status, again.body]).toEqual([304, ""]);
  expect((await ask(server.url, "GET", "/dashboard/licenses.txt")).body).toMatch(/preact[\s\S]*dagre/);
  expect((await fetch(server.url)).url).toBe(`${server.url}/dashboard/`);
  for (const path of ["/dashboard/none.js", "/dashboard/..%2F..%2Fpackage.json"])
    expectProblem(await ask(server.url, "GET", path), 404, "invalid_address");
  const without = await serveHttp(node, { listen: "127.0.0.1:0", dashboard: false });
  afterwards(() => without.close());
  expectProblem(await ask(without.url, "GET", "/dashboard/"), 404, "invalid_address");
});

it("a server that wants tokens gives the page to anybody, and the page asks for one", async () => {
  const secret = "a secret of thirty-two bytes, or more";
  const closed = await serveHttp(node, { listen: "127.0.0.1:0", auth: { secret } });
  afterwards(() => closed.close());
  const one = await openPage(browser, `${closed.url}/dashboard/`);
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setSubject("ada")
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret));
  await one.page.locator('input[name="token"]').fill(token);
  await one.page.getByRole("button", { name: "Go on" }).click();
  await one.page.waitForSelector('[data-node="amber"]');
  await one.close();
});

describe("how it looks", () => {
  it("is usable on a phone: nothing is wider than the screen", async () => {
    await underway("phone");
    const page = await look("", { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true });
    for (const [hash, ready] of [
      ["#/", '[data-type="order"] [data-state]'],
      ["#/types/order", "tr[data-key]"],
      ["#/actors/order/phone", '[data-detail="6"]'],
      ["#/dead", "h1"],
    ] as const) {
      await page.goto(`${server.url}/dashboard/${hash}`);
      await page.waitForSelector(ready);
      await shot(page, `phone-${hash.split("/")[1] || "cluster"}`);
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
    await expect.poll(ground, { timeout: 20_000 }).toBeGreaterThan(200);
    await page.reload();
    await page.waitForSelector("main");
    await expect.poll(ground, { timeout: 20_000 }).toBeGreaterThan(200);
  });

  it("an address that changes while the page is still beginning is followed", async () => {
    const page = await look("");
    // As the program has been run, and nothing is drawn yet.
    await page.addInitScript(`addEventListener("DOMContentLoaded", () => { location.hash = "#/dead"; })`);
    await page.reload();
    await page.waitForSelector("h1:text('Dead letters')");
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
