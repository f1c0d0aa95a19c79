/** As many streams as a server is to bear, at once: 10,000 readers, some of whom never read. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { afterwards, served } from "./support/http.ts";

const STREAMS = 10_000;
/** On so many keys. */
const KEYS = 100;

/**
 * Readers in a process of their own: a process has not files enough for both ends. It is told `{ open, port }`, and
 * answers when so many have had their first state; `{ until }`, and answers when all that read have had that text.
 */
const READERS = `
const { connect } = require("node:net");
const readers = [];
const open = (port, n) => new Promise((done, failed) => {
  const socket = connect({ host: "127.0.0.1", port });
  const reader = { socket, text: "", wake: () => {} };
  readers.push(reader);
  socket.setEncoding("latin1").on("data", (text) => { reader.text += text; reader.wake(); });
  socket.on("error", failed);
  socket.write("GET /actors/counter/k" + (n % ${KEYS}) + "/watch HTTP/1.1\\r\\nhost: 127.0.0.1\\r\\n\\r\\n");
  until(reader, '"count":0').then(done);
});
const until = (reader, part) => new Promise((done) => {
  reader.wake = () => { if (reader.text.includes(part)) done(); };
  reader.wake();
});
process.on("message", async ({ open: wanted, port, until: part }) => {
  try {
    if (part === undefined) {
      while (readers.length < wanted)
        await Promise.all(Array.from({ length: 250 }, () => open(port, readers.length)));
      // A tenth of them takes nothing more.
      readers.forEach(({ socket }, n) => { if (n % 10 === 0) socket.pause(); });
    } else await Promise.all(readers.filter((_, n) => n % 10 !== 0).map((reader) => until(reader, part)));
    process.send({ open: readers.length });
  } catch (error) {
    process.send({ failed: String(error) });
  }
});
`;

async function told(child: ChildProcess, message: object): Promise<unknown> {
  const answer = once(child, "message");
  child.send(message);
  return (await answer)[0];
}

it("bears ten thousand streams, tells each of them, and works on", { timeout: 120_000 }, async () => {
  const { server, node, call } = await served([counter], { limits: { streamsPerCaller: STREAMS } });
  const child = spawn(process.execPath, ["-e", READERS], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  afterwards(async () => void child.kill("SIGKILL"));
  expect(await told(child, { open: STREAMS, port: server.port })).toEqual({ open: STREAMS });
  expect(server.streams).toBe(STREAMS);
  expect((await call("GET", "/actors/counter/k0/watch")).status).toBe(429);
  // Nobody notices those who read no more.
  for (let n = 0; n < KEYS; n++)
    expect((await call("POST", `/actors/counter/k${n}`, { body: { type: "add", by: 1 } })).body.value).toBe(
      1,
    );
  expect(await told(child, { until: '"count":1' })).toEqual({ open: STREAMS });
  expect(node.health().ready).toBe(true);
  child.kill("SIGKILL");
  while (server.streams > 0) await new Promise((resolve) => setImmediate(resolve));
  expect((await call("GET", "/actors/counter/k0")).body.context).toEqual({ count: 1 });
});
