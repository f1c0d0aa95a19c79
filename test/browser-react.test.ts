/** Actors in components: in a real browser, with React and with Preact, and rendered on a server. */
import { join } from "node:path";
import { SignJWT } from "jose";
import { type KeyturnNode, memory, startNode, type Store } from "keyturn";
import { actorType, createClient } from "keyturn/browser";
import { type HttpServer, serveHttp } from "keyturn/http";
import { type ActorView, KeyturnProvider, useActor, useActorSelector, useClient } from "keyturn/react";
import { createElement, type ReactElement } from "react";
import { renderToString } from "react-dom/server";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, expectTypeOf, it } from "vitest";
import { counter } from "../actors/index.ts";
import { openPage, type Page, type Shown, startBrowser } from "./support/browser.ts";
import { bundled, pageOf } from "./support/pages.ts";

const PAGE = join(import.meta.dirname, "pages", "counters.tsx");
const preact = {
  react: "preact/compat",
  "react-dom": "preact/compat",
  "react-dom/client": "preact/compat/client",
  "react/jsx-runtime": "preact/jsx-runtime",
};
let browser: Browser;

beforeAll(async () => {
  browser = await startBrowser();
}, 300_000);

afterAll(async () => {
  await browser?.close();
});

describe.each([
  ["React", {}],
  ["Preact", preact],
])("with %s", (_, alias: Record<string, string>) => {
  let store: Store;
  let node: KeyturnNode;
  let server: HttpServer;
  let script: string;
  let port = 0;
  const shown: Shown[] = [];

  const start = async (): Promise<void> => {
    node = await startNode({ actors: [counter], store, shards: 8, observer: { troubled: () => undefined } });
    server = await serveHttp(node, { listen: `127.0.0.1:${port}`, routes: pageOf(script) });
    port = server.port;
  };
  const stop = async (): Promise<void> => {
    await server.close();
    await node.stop();
  };

  beforeAll(async () => {
    script = await bundled(PAGE, { alias });
    store = memory();
    await start();
  }, 60_000);

  afterAll(async () => {
    await stop();
  });

  afterEach(async () => {
    // That nobody answers is named in the console by the browser itself.
    const complaints = shown
      .flatMap((one) => [...one.complaints])
      .filter((text) => !/ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY_RESPONSE/.test(text));
    for (const one of shown.splice(0)) await one.close();
    expect(complaints).toEqual([]);
    await expect.poll(() => server.streams, { timeout: 20_000 }).toBe(0);
  });

  const look = async (...keys: string[]): Promise<Page> => {
    const one = await openPage(browser, `${server.url}/page?keys=${keys.join(",")}`);
    shown.push(one);
    return one.page;
  };
  const seen = (page: Page, key: string, more: string): Promise<unknown> =>
    page.waitForSelector(`[data-key="${key}"]${more}`);
  const show = (page: Page, keys: readonly string[]): Promise<void> =>
    page.evaluate((all) => {
      (globalThis as unknown as { page: { show(keys: readonly string[]): void } }).page.show(all);
    }, keys);

  it("shows an actor live in two windows, and what is clicked in one is seen in the other", async () => {
    const [one, other] = [await look("shared"), await look("shared")];
    await seen(one, "shared", '[data-status="live"][data-count="0"]');
    await seen(other, "shared", '[data-status="live"][data-count="0"]');
    await one.click('[data-key="shared"] .add');
    await seen(other, "shared", '[data-count="1"]');
    await one.waitForSelector("output:text-is('1')");
    await other.click('[data-key="shared"] .switch');
    await one.waitForSelector('[data-key="shared"] .switch:text-is("off")');
    await one.click('[data-key="shared"] .switch');
    await other.waitForSelector('[data-key="shared"] .switch:text-is("on")');
    await node.client.actor(counter, "shared").send({ type: "add", by: 10 });
    await seen(one, "shared", '[data-count="11"]');
    await seen(other, "shared", '[data-count="11"]');
  });

  it("watches many more actors than a browser has connections, and still asks", async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `many-${n}`);
    const page = await look(...keys);
    for (const key of keys) await seen(page, key, '[data-status="live"]');
    expect(server.streams).toBe(1);
    await page.evaluate(() => {
      const { document } = globalThis as unknown as {
        document: { querySelectorAll(css: string): Iterable<{ click(): void }> };
      };
      for (const button of document.querySelectorAll(".add")) button.click();
    });
    for (const key of keys) await seen(page, key, '[data-count="1"]');
    await Promise.all(keys.map((key) => node.client.actor(counter, key).send({ type: "add", by: 1 })));
    for (const key of keys) await seen(page, key, '[data-count="2"]');
    expect(server.streams).toBe(1);
  });

  it("follows a component to another key, and lets go of what is not shown", async () => {
    await node.client.actor(counter, "second").send({ type: "add", by: 5 });
    const page = await look("first");
    await seen(page, "first", '[data-status="live"][data-count="0"]');
    await show(page, ["second"]);
    await seen(page, "second", '[data-status="live"][data-count="5"]');
    await show(page, ["second", "first", "third"]);
    await seen(page, "third", '[data-status="live"]');
    await show(page, []);
    await expect.poll(() => server.streams, { timeout: 20_000 }).toBe(0);
    await node.client.actor(counter, "first").send({ type: "add", by: 1 });
    await show(page, ["first"]);
    await seen(page, "first", '[data-status="live"][data-count="1"]');
  });

  it("draws again only for what has changed, where a part is selected", async () => {
    const page = await look("part");
    await page.waitForSelector('[data-switch="on"]');
    const drawn = (): Promise<number> =>
      page.evaluate(() => (globalThis as unknown as { page: { drawn: number } }).page.drawn);
    const before = await drawn();
    for (let n = 1; n <= 5; n++) await node.client.actor(counter, "part").send({ type: "add", by: 1 });
    await seen(page, "part", '[data-count="5"]');
    expect(await drawn()).toBe(before);
    await node.client.actor(counter, "part").send({ type: "off" });
    await page.waitForSelector('[data-switch="off"]');
    expect(await drawn()).toBeGreaterThan(before);
  });

  it("asks and watches at another origin, with a token", async () => {
    const secret = "0123456789abcdef0123456789abcdef";
    const elsewhere = await serveHttp(node, {
      listen: "127.0.0.1:0",
      auth: { secret },
      authorize: ({ subject, key }) => key === subject,
      cors: { origins: [server.url] },
    });
    try {
      const token = await new SignJWT({ sub: "ada" })
        .setProtectedHeader({ alg: "HS256" })
        .setExpirationTime("1 minute")
        .sign(new TextEncoder().encode(secret));
      const page = await look(`ada,bob&url=${encodeURIComponent(elsewhere.url)}&token=${token}`);
      await page.click('[data-key="ada"] .add');
      await seen(page, "ada", '[data-status="live"][data-count="1"]');
      await seen(page, "bob", '[data-status="failed"]:text-is("access_denied")');
      expect(elsewhere.streams).toBe(1);
      expect(server.streams).toBe(0);
    } finally {
      await elsewhere.close();
    }
  });

  it("goes on when its server has gone and come back", async () => {
    const page = await look("lasting");
    await page.click('[data-key="lasting"] .add');
    await seen(page, "lasting", '[data-status="live"][data-count="1"]');
    await stop();
    await seen(page, "lasting", '[data-status="reconnecting"][data-count="1"]');
    // Asked while nobody is there; answered when somebody is.
    await page.click('[data-key="lasting"] .add');
    await start();
    await seen(page, "lasting", '[data-status="live"][data-count="2"]');
    await page.waitForSelector("output:text-is('2')");
  });
});

describe("on a server", () => {
  const counters = actorType<typeof counter>("counter");
  const client = createClient({ url: "http://127.0.0.1:9" });

  it("shows that nothing is known, or what is given, and asks nobody", () => {
    const Shown = ({ initial }: { initial?: ActorView<typeof counter.machine>["state"] }): ReactElement => {
      const { status, context, matches } = useActor(counters, "a", { initialState: initial });
      const count = useActorSelector(counters, "a", (state) => state.context.count, {
        initialState: initial,
      });
      return createElement("p", null, `${status} ${context?.count} ${matches("on")} ${count}`);
    };
    const within = (element: ReactElement): string =>
      renderToString(createElement(KeyturnProvider, { client }, element));
    expect(within(createElement(Shown))).toBe("<p>connecting undefined false undefined</p>");
    const initial = {
      value: "on",
      context: { count: 3 },
      status: "active",
      output: undefined,
      turn: 3,
      position: 9,
    } as const;
    expect(within(createElement(Shown, { initial }))).toBe("<p>connecting 3 true 3</p>");
    const Idle = (): ReactElement => createElement("p", null, useActor(counters, undefined).status);
    expect(within(createElement(Idle))).toBe("<p>idle</p>");
    const Bare = (): ReactElement => createElement("p", null, useClient() === client ? "mine" : "another's");
    expect(within(createElement(Bare))).toBe("<p>mine</p>");
    expect(() => renderToString(createElement(Bare))).toThrow(
      expect.objectContaining({ code: "invalid_options" }),
    );
    expect(() => renderToString(createElement(Shown))).toThrow(/KeyturnProvider/);
  });

  it("has the types of the definition", () => {
    const Typed = (): ReactElement => {
      const actor = useActor(counters, "a");
      expectTypeOf(actor.ask({ type: "add", by: 1 })).resolves.toEqualTypeOf<number>();
      expectTypeOf(actor.context).toEqualTypeOf<Readonly<{ readonly count: number }> | undefined>();
      if (actor.state !== undefined) {
        expectTypeOf(actor.context.count).toEqualTypeOf<number>();
        expectTypeOf(actor.value).toEqualTypeOf<"on" | "off">();
      }
      expectTypeOf(useActorSelector(counter, "a", (state) => state.context.count)).toEqualTypeOf<
        number | undefined
      >();
      // @ts-expect-error no such event
      const send = (): Promise<void> => actor.send({ type: "multiply" });
      // @ts-expect-error no such state
      const matches = (): boolean => actor.matches("broken");
      return createElement("p", null, typeof send, typeof matches);
    };
    // @ts-expect-error not the definition's type
    expect(actorType<typeof counter>("counters").type).toBe("counters");
    expect(Typed).toBeTypeOf("function");
  });
});
