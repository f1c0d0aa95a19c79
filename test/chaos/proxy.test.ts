/** The proxy that the chaos run partitions with: what it holds, delays and resets, it does in order and completely. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TcpProxy } from "./proxy.ts";

let server: Server;
let proxy: TcpProxy;
let accepted: Socket[];
let sockets: Socket[];

beforeEach(async () => {
  accepted = [];
  sockets = [];
  server = createServer((socket) => {
    socket.on("error", () => undefined);
    accepted.push(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy = await TcpProxy.start([(server.address() as AddressInfo).port]);
});

afterEach(async () => {
  for (const socket of [...sockets, ...accepted]) socket.destroy();
  await proxy.close();
  await new Promise((resolve) => server.close(resolve));
});

/** A connection through the proxy: this side, and the server's. */
async function open(): Promise<{ here: Socket; there: Socket }> {
  const here = dial();
  const [there] = (await once(server, "connection")) as [Socket];
  return { here, there };
}

function dial(): Socket {
  const port = Number(proxy.addresses[0]?.split(":")[1]);
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  sockets.push(socket);
  return socket;
}

/** Reads so many bytes. */
function read(socket: Socket, count: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let length = 0;
    socket.on("data", (bytes: Buffer) => {
      parts.push(bytes);
      length += bytes.length;
      if (length >= count) resolve(Buffer.concat(parts));
    });
  });
}

test("bytes pass in both directions, and so does the end of a connection", async () => {
  const { here, there } = await open();
  here.write("from here");
  there.write("from there");
  const [up, down] = await Promise.all([read(there, 9), read(here, 10)]);
  expect([`${up}`, `${down}`]).toEqual(["from here", "from there"]);
  const gone = [closed(here), closed(there)];
  here.end();
  expect(await Promise.all(gone)).toEqual(["closed", "closed"]);
});

test("in a cut nothing passes, and what was held comes late and in order", async () => {
  const { here, there } = await open();
  let early = "";
  there.on("data", (bytes: Buffer) => (early += bytes));
  proxy.cut(["up"]);
  here.write("held 1,");
  // The other direction is open, so its bytes arriving shows that there was time for the held ones.
  there.write("open");
  expect(`${await read(here, 4)}`).toBe("open");
  here.write("held 2");
  expect(early).toBe("");
  const all = read(there, 13);
  proxy.heal("late");
  expect(`${await all}`).toBe("held 1,held 2");
});

test("a cut holds back the end of a connection, and new connections", async () => {
  const { here, there } = await open();
  let ended = false;
  there.once("close", () => (ended = true));
  proxy.cut();
  here.destroy();
  await closed(here);
  const late = dial();
  await once(late, "connect");
  expect({ ended, accepted: accepted.length }).toEqual({ ended: false, accepted: 1 });
  const both = Promise.all([closed(there), once(server, "connection")]);
  proxy.heal();
  await both;
  expect(accepted.length).toBe(2);
});

test("healed by a reset, a connection that had lost bytes is gone, one that had not is there", async () => {
  const one = await open();
  const other = await open();
  proxy.cut(["down"]);
  one.there.write("lost");
  one.here.write("arrives");
  // It has passed through the proxy after what was lost was written.
  await read(one.there, 7);
  other.here.write("before");
  await read(other.there, 6);
  const gone = Promise.all([closed(one.here), closed(one.there)]);
  proxy.heal("reset");
  await gone;
  other.there.write("after");
  expect(`${await read(other.here, 5)}`).toBe("after");
});

test("a delay and a throttle change when bytes come, not which", async () => {
  const { here, there } = await open();
  const bytes = Buffer.alloc(60_000, "0123456789");
  proxy.delay(20, 10);
  proxy.throttle("up", 300_000);
  const from_ms = performance.now();
  const all = read(there, bytes.length);
  for (let at = 0; at < bytes.length; at += 999) here.write(bytes.subarray(at, at + 999));
  expect((await all).equals(bytes)).toBe(true);
  // 60,000 bytes at 300,000 a second, less the last piece.
  expect(performance.now() - from_ms).toBeGreaterThan(180);
});

test("a server that cannot be reached resets", async () => {
  const gone = await TcpProxy.start([1]);
  const socket = connect({ port: Number(gone.addresses[0]?.split(":")[1]), host: "127.0.0.1" });
  socket.on("error", () => undefined);
  await closed(socket);
  await gone.close();
  expect(socket.destroyed).toBe(true);
});

test("what it holds is bounded", async () => {
  const { here } = await open();
  proxy.cut(["up"]);
  const chunk = Buffer.alloc(256 * 1024);
  let written = 0;
  // Until the sender feels it: sockets and the proxy have taken what they hold, and no more.
  while (here.write(chunk) || (await Promise.race([once(here, "drain").then(() => true), stalled()]))) {
    written += chunk.length;
    expect(written).toBeLessThan(64 * 1024 * 1024);
  }
  expect(written).toBeGreaterThan(256 * 1024);
});

/** Resolves when it is gone, by an error or not. */
function closed(socket: Socket): Promise<string> {
  return new Promise((resolve) => socket.once("close", () => resolve("closed")));
}

/** Nothing has moved for a while: there is no event for that. */
function stalled(): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), 300));
}
