/**
 * A small shop as a web server: pages, a cart for each visitor, orders; and an access log in Combined Log Format.
 *
 * Owns the server and the log. It stands behind a proxy, as servers do, which says who asks (`X-Forwarded-For`). Its
 * clock is handed in, so that a day of traffic need not take a day.
 */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const PRODUCTS = 24;

export interface Shop {
  readonly port: number;
  /** Loses the rest of a line, as a full disk does. */
  cutLine(): void;
  /** Resolves once the log is on the disk. */
  close(): Promise<void>;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const FILES: ReadonlyMap<string, string> = new Map([
  ["/static/shop.css", "text/css"],
  ["/static/shop.js", "text/javascript"],
  ["/static/logo.png", "image/png"],
]);

/** What a product costs, in hundredths. */
export function priceOf(product: number): number {
  return 490 + ((product * 1_733) % 9_000);
}

/** Starts the shop. @param now milliseconds since the epoch, for the log */
export async function startShop(log: string, now: () => number): Promise<Shop> {
  const file = createWriteStream(log);
  await once(file, "open");
  const carts = new Map<string, number[]>();
  const write = (request: string, from: IncomingMessage | undefined, status: number, bytes: number): void => {
    const host = headerOf(from, "x-forwarded-for") ?? "127.0.0.1";
    const [referer, agent] = [headerOf(from, "referer") ?? "-", headerOf(from, "user-agent") ?? "-"];
    file.write(
      `${host} - - [${logTime(now())}] "${quoted(request)}" ${status} ${bytes} "${quoted(referer)}" "${quoted(agent)}"\n`,
    );
  };
  const server = createServer((request, response) => {
    const [status, type, body] = answerTo(request, response, carts);
    response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
    response.end(request.method === "HEAD" ? undefined : body);
    const line = `${request.method} ${request.url} HTTP/${request.httpVersion}`;
    write(line, request, status, Buffer.byteLength(body));
  });
  // Who speaks no HTTP stands in the log too, as in any server's.
  server.on("clientError", (error: Error & { rawPacket?: Buffer }, socket) => {
    write(error.rawPacket?.toString("latin1").slice(0, 40) ?? "-", undefined, 400, 0);
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    cutLine: () => void file.write(`10.0.0.1 - - [${logTime(now())}] "GET /prod\n`),
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
      file.end();
      await once(file, "close");
    },
  };
}

type Answer = readonly [status: number, type: string, body: string];

function answerTo(request: IncomingMessage, response: ServerResponse, carts: Map<string, number[]>): Answer {
  const url = new URL(request.url ?? "/", "http://shop");
  const product = /^\/products\/(\d+)$/.exec(url.pathname)?.[1];
  const key = `${headerOf(request, "x-forwarded-for")} ${headerOf(request, "user-agent")}`;
  const route = `${request.method} ${url.pathname}`;
  if (route === "POST /cart") {
    const wanted = Number(url.searchParams.get("product"));
    if (!isProduct(wanted)) return page(400, "There is no such product.");
    carts.set(key, [...(carts.get(key) ?? []), wanted]);
    return page(201, `In your cart: ${carts.get(key)?.length}`);
  }
  if (route === "POST /orders") {
    const cart = carts.get(key) ?? [];
    const total = totalOf(cart);
    // What the visitor has agreed to must be what it costs.
    if (cart.length === 0 || url.searchParams.get("total") !== total)
      return page(409, "The cart has changed.");
    carts.delete(key);
    return page(201, `Thank you for ${total}.`);
  }
  if (request.method !== "GET" && request.method !== "HEAD") return page(405, "Not here.");
  const type = FILES.get(url.pathname);
  if (type !== undefined) return [200, type, `/* ${url.pathname} */`.repeat(40)];
  if (url.pathname === "/") return page(200, "<h1>The shop</h1>".repeat(30));
  if (url.pathname === "/search") return page(200, `Found for ${url.searchParams.get("q")}`.repeat(12));
  if (url.pathname === "/cart") return page(200, `Your cart: ${totalOf(carts.get(key) ?? [])}`);
  if (product !== undefined && isProduct(Number(product))) {
    response.setHeader("cache-control", "max-age=60");
    return page(200, `<h1>Product ${product}</h1>`.repeat(20 + Number(product)));
  }
  return page(404, "There is no such page.");
}

/** What a cart comes to, as text: `49.90`. */
export function totalOf(cart: readonly number[]): string {
  return (cart.reduce((sum, product) => sum + priceOf(product), 0) / 100).toFixed(2);
}

function isProduct(number: number): boolean {
  return Number.isInteger(number) && number >= 1 && number <= PRODUCTS;
}

function page(status: number, body: string): Answer {
  return [status, "text/html", `<!doctype html><title>Shop</title>${body}`];
}

function headerOf(request: IncomingMessage | undefined, name: string): string | undefined {
  const value = request?.headers[name];
  return typeof value === "string" ? value : undefined;
}

/** As Apache writes what could break a line. */
function quoted(text: string): string {
  return text.replace(/["\\]|[^\x20-\x7e]/g, (char) =>
    char === '"' || char === "\\"
      ? `\\${char}`
      : `\\x${(char.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}`,
  );
}

function logTime(time: number): string {
  const [date = "", clock = ""] = new Date(time).toISOString().split(/[T.]/);
  const [year, month, day] = date.split("-");
  return `${day}/${MONTHS[Number(month) - 1]}/${year}:${clock} +0000`;
}
