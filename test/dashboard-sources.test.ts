/** Dead letters of sources in the dashboard, in a real browser: seen, read again, dropped. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type KeyturnNode, startNode } from "keyturn";
import { serveHttp } from "keyturn/http";
import {
  defineSource,
  http,
  lines,
  runSource,
  sourceDeadLetters,
  sourceEndpoint,
  toldTo,
} from "keyturn/streams";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { countOf, faintTexts, openPage } from "./support/browser.ts";
import { Dashboard } from "./support/dashboard.ts";
import { afterwards, ask } from "./support/http.ts";

const mended = { is: false };
const folder = mkdtempSync(join(tmpdir(), "keyturn-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
/** A log whose path is long, and has lines of which some are no numbers. */
const path = join(folder, `${"a-log-with-a-long-name".repeat(4)}.txt`);
writeFileSync(path, `1\n2x\n3\n4x\nheavy ${"metal".repeat(60)}\n`);
const many = join(folder, "many.txt");
writeFileSync(many, Array.from({ length: 130 }, (_, n) => `n${n}`).join("\n"));

const toNumber = (line: string) => {
  const by = Number(mended.is ? line.replace("x", "") : line);
  if (Number.isNaN(by)) throw new Error(`"${line}" is no number`);
  return toldTo(counter, "weights", { type: "add", by });
};
const weights = defineSource("weights", { from: lines({ path }), to: toNumber });
const crowd = defineSource("crowd", { from: lines({ path: many }), to: toNumber });
const posted = defineSource<{ by: number; note?: string }>("posted", {
  from: http(),
  to: ({ by }) => {
    if (!mended.is) throw new Error("It is not well yet.");
    return toldTo(counter, "posted", { type: "add", by });
  },
});

const sources = [weights, crowd, posted];
const dashboard = new Dashboard([counter, ...sources.flatMap(({ actors }) => actors)]);
const look: Dashboard["look"] = (hash, options) => dashboard.look(hash, options);
const shot: Dashboard["shot"] = (page, name) => dashboard.shot(page, name);
let node: KeyturnNode;

beforeAll(async () => {
  ({ node } = dashboard);
  await runSource(node.client, weights).done;
  await runSource(node.client, crowd).done;
});

beforeEach(() => {
  mended.is = false;
});

const counted = async (key: string): Promise<number> =>
  (await node.client.actor(counter, key).get()).context.count;

async function lettersOf(source: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of sourceDeadLetters(node.client, source)) ids.push(id);
  return ids;
}

/** Posts an item to the source `posted`. */
async function post(sequence: number, item: object): Promise<void> {
  const endpoint = createServer(sourceEndpoint(node.client, posted));
  await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
  afterwards(async () => {
    endpoint.closeAllConnections();
    endpoint.close();
  });
  const url = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`;
  const headers = { "keyturn-producer": "till-7", "keyturn-sequence": String(sequence) };
  expect((await ask(url, "POST", "/", { body: item, headers })).status).toBe(200);
}

describe("how they look", () => {
  const sizes = [
    { viewport: { width: 1_280, height: 900 } },
    { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true },
  ] as const;

  it.each(sizes)("nothing is wider than a screen of $viewport.width", async (size) => {
    const page = await look("#/dead/weights", size);
    await countOf(page, ".letter", (n) => n === 3);
    await page.locator(".letter summary").first().click();
    await shot(page, `sources-${size.viewport.width}`);
    expect(await page.locator("html").evaluate((html) => html.scrollWidth)).toBe(size.viewport.width);
    for (const button of await page.locator(".letter button").all()) {
      const box = await button.boundingBox();
      expect(box?.x).toBeGreaterThanOrEqual(0);
      expect((box?.x ?? 0) + (box?.width ?? 0)).toBeLessThanOrEqual(size.viewport.width);
    }
  });

  it.each(["light", "dark"] as const)(
    "texts can be read: contrast of at least 4.5, %s",
    async (colorScheme) => {
      const page = await look("#/dead/weights", { colorScheme });
      await countOf(page, ".letter", (n) => n === 3);
      await page.locator(".letter summary").first().click();
      await page.locator('[data-letter="0.0"]').getByRole("button", { name: "Read again" }).click();
      await page.locator('[data-letter="0.0"] .trouble').waitFor();
      await page.mouse.move(0, 0);
      await shot(page, `sources-${colorScheme}`);
      expect(await page.evaluate(faintTexts)).toEqual([]);
    },
  );
});

describe("the letters of a source", () => {
  it("are led to from the others, and shown with what they are of, the line, and why", async () => {
    const page = await look("#/dead");
    const tab = page.locator('.tabs [data-source="weights"]');
    await tab.waitFor();
    expect(await page.locator('.tabs [data-source="crowd"]').innerText()).toMatch(/crowd\s*100\+/);
    expect(await page.locator('.tabs [data-source="posted"]').innerText()).toBe("posted");
    await page.getByText("None. That is how it should be.").waitFor();
    await shot(page, "sources-tabs");
    await tab.click();
    await page.waitForURL(/#\/dead\/weights$/);
    await countOf(page, ".letter", (n) => n === 3);
    const texts = await page.locator(".letter").allInnerTexts();
    expect(texts[1]).toMatch(/a-log-with-a-long-name[\s\S]*item 4[\s\S]*"4x" is no number[\s\S]*"4x"/);
    expect(texts[2]).toMatch(/item 2[\s\S]*"2x" is no number/);
    expect(await page.title()).toBe("weights · Keyturn");
  });

  it("come a page at a time", async () => {
    const page = await look("#/dead/crowd");
    await page.waitForSelector('[data-letter="0.129"]');
    await countOf(page, ".letter", (n) => n === 50);
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('[data-letter="0.79"]');
    await page.getByRole("button", { name: "Next" }).click();
    await page.waitForSelector('[data-letter="0.0"]');
    await countOf(page, ".letter", (n) => n === 30);
    expect(await page.getByRole("button", { name: "Next" }).isDisabled()).toBe(true);
  });

  it("with the keyboard alone: one that still cannot be used stays, and says so; then it counts", async () => {
    const page = await look("#/dead");
    await page.locator('.tabs [data-source="weights"]').waitFor();
    const focused = () => page.evaluate<string>("document.activeElement.textContent.trim()");
    const tabTo = async (text: RegExp): Promise<void> => {
      for (let n = 0; n < 40; n++) {
        await page.keyboard.press("Tab");
        if (text.test(await focused())) return;
      }
      throw new Error(`${text} is not reached.`);
    };
    await tabTo(/^weights/);
    await page.keyboard.press("Enter");
    await countOf(page, ".letter", (n) => n === 3);
    await tabTo(/^Read again$/);
    await page.keyboard.press("Enter");
    const first = page.locator(".letter").first();
    await first.getByText(/Item 5 of .* still cannot be used/).waitFor();
    expect(await lettersOf("weights")).toHaveLength(3);
    mended.is = true;
    await page.locator('[data-letter="0.0"]').getByRole("button", { name: "Read again" }).focus();
    await page.keyboard.press("Enter");
    await page.getByText("1 taken.").waitFor();
    await page.locator('[data-letter="0.0"]').waitFor({ state: "detached" });
    await expect.poll(() => counted("weights")).toBe(1 + 3 + 2);
    expect(await lettersOf("weights")).toEqual(["0.2", "0.1"]);
  });

  it("all of a page are read again, oldest first; the rest is dropped when that was meant", async () => {
    mended.is = true;
    const page = await look("#/dead/weights");
    await countOf(page, ".letter", (n) => n === 2);
    const asked: string[] = [];
    page.on("request", (request) => {
      if (request.method() === "POST") asked.push(new URL(request.url()).pathname);
    });
    await page.getByRole("button", { name: "Read all on this page again" }).click();
    await page.getByText("1 taken. 1 refused: still here.").waitFor();
    expect(asked).toEqual(["0.1", "0.2"].map((id) => `/sources/weights/dead-letters/${id}/retry`));
    await expect.poll(() => counted("weights")).toBe(10);
    await page.locator('[data-letter="0.2"]').getByRole("button", { name: "Drop" }).click();
    await page.getByText("None. That is how it should be.").waitFor();
    expect(await lettersOf("weights")).toEqual([]);
    await page.locator('.tabs [data-source="weights"] .tag').waitFor({ state: "detached" });
    await page.goto(`${dashboard.server.url}/dashboard/#/dead/crowd`);
    await countOf(page, ".letter", (n) => n === 50);
    await page.getByRole("button", { name: "Drop all on this page" }).click();
    await page.getByRole("dialog").getByText("They are not read again then.").waitFor();
    await shot(page, "sources-drop");
    await page.getByRole("dialog").getByRole("button", { name: "Drop", exact: true }).click();
    await page.getByText("50 dropped.").waitFor();
    await page.waitForSelector('[data-letter="0.79"]');
    expect(await lettersOf("crowd")).toHaveLength(80);
  });

  it("that came by requests are shown whole, and read again from their letters", async () => {
    await post(1, { by: 5, note: "n".repeat(900) });
    const page = await look("#/dead/posted");
    const letter = page.locator('[data-letter="0.0"]');
    await letter.locator("summary").click();
    expect(await letter.innerText()).toMatch(/till-7[\s\S]*item 1[\s\S]*not well yet/);
    expect(await letter.locator("details").innerText()).toMatch(/by 5[\s\S]*900 characters/);
    await shot(page, "sources-posted");
    mended.is = true;
    await letter.getByRole("button", { name: "Read again" }).click();
    await page.getByText("1 taken.").waitFor();
    await expect.poll(() => counted("posted")).toBe(5);
  });

  it("are not read again at a node that does not host the source, which says so", async () => {
    const beside = await startNode({
      actors: [counter],
      store: dashboard.store,
      name: "beside",
      shards: 64,
      // So light that it serves no shard.
      weight: 1e-9,
      observer: { troubled: () => undefined },
    });
    afterwards(() => beside.stop({ closeStore: false }));
    const server = await serveHttp(beside, { listen: "127.0.0.1:0" });
    afterwards(() => server.close());
    const { page, close } = await openPage(dashboard.browser, `${server.url}/dashboard/#/dead/crowd`);
    await countOf(page, ".letter", (n) => n > 1);
    await page.getByText("This node does not host the source").waitFor();
    expect(await page.getByRole("button", { name: /again/ }).count()).toBe(0);
    await page.locator(".letter").first().getByRole("button", { name: "Drop" }).click();
    await page.getByText("1 dropped.").waitFor();
    await close();
  });
});
