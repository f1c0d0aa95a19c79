/** The dashboard of a node in a real browser, for a file of tests. DASHBOARD_SHOTS names a folder for screenshots. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type AnyActorDefinition, type KeyturnNode, startNode } from "keyturn";
import { type HttpServer, serveHttp } from "keyturn/http";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { openPage, type Page, type Shown, startBrowser } from "./browser.ts";
import { builtDashboard } from "./build.ts";
import { FaultStore } from "./fault-store.ts";

const SHOTS = process.env.DASHBOARD_SHOTS;

export class Dashboard {
  browser!: Browser;
  node!: KeyturnNode;
  server!: HttpServer;
  readonly store = new FaultStore();
  readonly #actors: readonly AnyActorDefinition[];
  readonly #shown: Shown[] = [];

  /** Starts with the first test of the file, ends behind the last; after each nothing may have been complained about. */
  constructor(actors: readonly AnyActorDefinition[]) {
    this.#actors = actors;
    beforeAll(() => this.#start(), 120_000);
    afterAll(async () => {
      await this.browser?.close();
      await this.server?.close();
      await this.node?.stop();
    });
    afterEach(async () => {
      // A refusal that was asked for is named in the console by the browser itself.
      const complaints = this.#shown
        .flatMap((one) => [...one.complaints])
        .filter((text) => !/responded with a status of (4\d\d|50[34])/.test(text));
      for (const one of this.#shown.splice(0)) await one.close();
      expect(complaints).toEqual([]);
    });
  }

  async #start(): Promise<void> {
    await builtDashboard();
    this.node = await this.nodeNamed("amber");
    this.server = await serveHttp(this.node, { listen: "127.0.0.1:0" });
    this.browser = await startBrowser();
    if (SHOTS !== undefined) mkdirSync(SHOTS, { recursive: true });
  }

  /** A node on the same store. */
  nodeNamed(name: string): Promise<KeyturnNode> {
    return startNode({
      actors: this.#actors,
      store: this.store,
      name,
      shards: 64,
      settings: { lease_ms: 1_200, heartbeat_ms: 200 },
      observer: { troubled: () => undefined },
    });
  }

  async look(hash: string, options?: BrowserContextOptions): Promise<Page> {
    const one = await openPage(this.browser, `${this.server.url}/dashboard/${hash}`, options);
    this.#shown.push(one);
    return one.page;
  }

  async shot(page: Page, name: string): Promise<void> {
    if (SHOTS !== undefined) await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
  }
}
