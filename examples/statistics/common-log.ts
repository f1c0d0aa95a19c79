/**
 * Access logs in Common or Combined Log Format, as web servers write them, and what their lines mean to a shop. Pure
 * functions.
 *
 * Who a visitor is: the address and, if the format has it, the browser; robots by what they call themselves. That is what
 * a log without cookies knows; people behind one address with the same browser are one.
 */
import { createHash } from "node:crypto";

/** What a line means. */
export type HitKind =
  /** A page was seen. */
  | "view"
  /** Something was put into the cart. */
  | "cart"
  | "order"
  /** Anything else: pictures, failures, other requests. */
  | "other"
  /** By a program that says so. */
  | "robot";

/** A line. */
export interface Hit {
  readonly visitor: string;
  readonly kind: HitKind;
  /** When the request came, milliseconds since the epoch. */
  readonly at: number;
  /** The path without its query; all pictures and the like are one. */
  readonly page: string;
  readonly status: number;
  readonly bytes: number;
  /** Of an order, in hundredths; 0 if the log does not say. */
  readonly cents: number;
}

/** Where a shop takes carts and orders. Whatever is below these paths counts too. */
export interface ShopPaths {
  readonly cart: string;
  readonly order: string;
}

export const shopPaths: ShopPaths = { cart: "/cart", order: "/orders" };

const LINE =
  /^(\S+) (\S+) (.*?) \[(\d{2})\/([A-Z][a-z]{2})\/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?/;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ROBOT = /bot|crawl|spider|slurp|fetch|curl|wget|monitor/i;
/** Of a robot's name. */
const NAME_BYTES = 40;
const ASSET = /\.(?:avif|css|gif|ico|jpe?g|js|map|mjs|mp4|png|svg|webp|woff2?|ttf|txt|xml)$/i;
/** The parameter that says what an order is worth. */
const VALUE = /[?&](?:total|value|amount)=(\d{1,9}(?:\.\d{1,2})?)(?:&|$)/;
/** Keys of actors are bounded, and what is no letter or digit takes three bytes of them. */
const KEY_BYTES = 150;
const HASH_BYTES = 13;
const NO_PAGE = "(no request)";
const FILES = "(files)";

/**
 * Reads a line. Undefined for an empty one.
 * @throws Error with what is wrong with it
 */
export function parseLine(line: string, paths: ShopPaths = shopPaths): Hit | undefined {
  if (line.trim() === "") return undefined;
  const found = LINE.exec(line);
  if (found === null) throw new Error("It is not in Common Log Format.");
  const [, host = "", , user = "", day, month = "", year, hour, minute, second, sign, offH, offM, ...rest] =
    found;
  const [request = "", status, bytes, , agent] = rest;
  const offset_ms = (Number(offH) * 60 + Number(offM)) * 60_000 * (sign === "-" ? -1 : 1);
  const local = Date.UTC(
    Number(year),
    MONTHS.indexOf(month),
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  );
  // Date takes the 31st of June for the 1st of July.
  if (!new Date(local).toISOString().startsWith(`${year}-${monthOf(month)}-${day}T${hour}:${minute}`))
    throw new Error("Its time is none.");
  const meant = meaningOf(request, Number(status), agent, paths);
  return {
    visitor: visitorOf(host, user, agent),
    at: local - offset_ms,
    status: Number(status),
    bytes: bytes === "-" ? 0 : Number(bytes),
    ...meant,
  };
}

/** The hour of a time in UTC, for example `2026-11-26T15`. */
export function hourOf(at: number): string {
  return new Date(at).toISOString().slice(0, 13);
}

function monthOf(name: string): string {
  return String(MONTHS.indexOf(name) + 1).padStart(2, "0");
}

function meaningOf(
  request: string,
  status: number,
  agent: string | undefined,
  paths: ShopPaths,
): Pick<Hit, "kind" | "page" | "cents"> {
  const [, method = "", target = ""] = /^([A-Z]+) (\S+)(?: HTTP\/[\d.]+)?$/.exec(request) ?? [];
  const path = pathOf(target);
  const page = path === undefined ? NO_PAGE : ASSET.test(path) ? FILES : shortened(path);
  const is = (kind: HitKind, cents = 0) => ({ kind, page, cents });
  if (robotOf(agent) !== undefined) return is("robot");
  if (status >= 400 || path === undefined) return is("other");
  if (method === "POST" && isBelow(path, paths.order))
    return is("order", Math.round(Number(VALUE.exec(target)?.[1] ?? 0) * 100));
  if (method === "POST" && isBelow(path, paths.cart)) return is("cart");
  return is(method === "GET" && page !== FILES ? "view" : "other");
}

/** Undefined if it is none: servers log whatever they were sent. */
function pathOf(target: string): string | undefined {
  const path = target.replace(/^https?:\/\/[^/?#]*/i, "").replace(/[?#].*$/s, "");
  return path.startsWith("/") ? path : undefined;
}

function isBelow(path: string, base: string): boolean {
  return path === base || path.startsWith(`${base}/`);
}

function visitorOf(host: string, user: string, agent: string | undefined): string {
  const robot = robotOf(agent);
  if (robot !== undefined) return shortened(robot);
  const mark = agent === undefined ? "" : `~${hashOf(agent).slice(0, 6)}`;
  return shortened(`${user === "-" || user === "" ? host : user}${mark}`);
}

/** What a robot calls itself: the word in which it says so. */
function robotOf(agent: string | undefined): string | undefined {
  const at = agent?.search(ROBOT) ?? -1;
  if (agent === undefined || at < 0) return undefined;
  const [before = ""] = /[\w.-]*$/.exec(agent.slice(Math.max(0, at - NAME_BYTES), at)) ?? [];
  const [rest = ""] = /^[\w.-]*/.exec(agent.slice(at, at + NAME_BYTES)) ?? [];
  return before + rest;
}

/** The same if it fits into an actor's key; else its beginning, told apart by a hash. */
function shortened(text: string): string {
  let [bytes, end] = [0, 0];
  let at = 0;
  for (const char of text) {
    bytes += /[A-Za-z0-9_-]/.test(char) ? 1 : 3 * Buffer.byteLength(char);
    if (bytes > KEY_BYTES) return `${text.slice(0, end)}~${hashOf(text).slice(0, 10)}`;
    at += char.length;
    if (bytes <= KEY_BYTES - HASH_BYTES) end = at;
  }
  return text;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
