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

/** Runs in the page: texts whose contrast with their ground is too low, each with its ratio. */
export const faintTexts = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const light = ([r, g, b]) => [r, g, b]
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
  const groundOf = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((ground, layer) => over(layer, ground), [255, 255, 255, 1]);
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (text === "" || element.closest("svg, script, noscript, option, .skip, :disabled, .counting") || !element.checkVisibility()) continue;
    const ground = groundOf(element);
    const ink = over(rgba(getComputedStyle(element).color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(text.slice(0, 30) + " " + ratio.toFixed(2) + " " + element.className);
  }
  return [...new Set(faint)];
})()`;
