/** A page of the dashboard in a real Chromium, with whatever its console says. */
import { type Browser, type BrowserContextOptions, chromium as playwright, type Page } from "playwright-core";
import { expect } from "vitest";
import { chromium } from "./chromium.ts";

export type { Page } from "playwright-core";

export interface Shown {
  readonly page: Page;
  /** What the console said that is no mere remark, and what was thrown. */
  readonly complaints: readonly string[];
  close(): Promise<void>;
}

/** For whatever is waited for; a machine may be busy with much else. */
const WAIT_MS = 20_000;

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

/** Starts the browser, fetching it first if need be. */
export async function startBrowser(): Promise<Browser> {
  const { path, env } = await chromium();
  return playwright.launch({
    executablePath: path,
    args: ARGS,
    env: { ...(process.env as Record<string, string>), ...env },
  });
}

/** Opens an address in a profile of its own. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Shown> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.setDefaultTimeout(WAIT_MS);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
}

/** Waits until so many elements are there. */
export async function countOf(page: Page, selector: string, isEnough: (n: number) => boolean): Promise<void> {
  const elements = page.locator(selector);
  await expect.poll(() => elements.count().then(isEnough), { timeout: WAIT_MS, interval: 50 }).toBe(true);
}

/** How light the page's ground is, from 0 to 255. */
export async function groundOf(page: Page): Promise<number> {
  const style = await page.locator("body").evaluate((body) => {
    const { getComputedStyle: styleOf } = globalThis as unknown as {
      getComputedStyle(element: unknown): { readonly backgroundColor: string };
    };
    return styleOf(body).backgroundColor;
  });
  return Number(/\d+/.exec(style)?.[0]);
}
