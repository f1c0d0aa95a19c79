/** `keyturn start --http`, as a process. */
import { SignJWT } from "jose";
import { connect } from "keyturn";
import { serveHttp } from "keyturn/http";
import { expect, it, onTestFinished } from "vitest";
import { keyturn, keyturnEnded, withPackage } from "./support/cli.ts";
import { afterwards, ask, expectProblem, Listener } from "./support/http.ts";
import { startServer } from "./support/nats-server.ts";
import { temporaryPath } from "./support/temporary.ts";

withPackage();

it("serves a node over HTTP, with tokens, and ends with it", { timeout: 60_000 }, async () => {
  const secret = "a secret of thirty-two bytes or more";
  const args = [
    "start",
    "--data",
    temporaryPath(),
    "--http",
    "127.0.0.1:0",
    "--http-issuer",
    "me",
    "--http-set",
    "streams=2",
    "--json",
  ];
  const cli = keyturn(args, { env: { KEYTURN_HTTP_SECRET: secret } });
  const { http: url } = (await cli.event("ready")) as unknown as { http: string };
  expectProblem(await ask(url, "GET", "/actors/counter/a"), 401, "access_denied");
  const token = await new SignJWT({ sub: "ada", iss: "me" })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1 minute")
    .sign(new TextEncoder().encode(secret));
  const headers = { authorization: `Bearer ${token}` };
  const body = { type: "add", by: 4 };
  expect((await ask(url, "POST", "/actors/counter/a", { body, headers })).body.value).toBe(4);
  expect((await ask(url, "GET", "/readyz")).body).toEqual({ ready: true });
  const listener = await Listener.open(url, "/actors/counter/a/watch", headers);
  expect(await listener.next()).toMatchObject({ data: { context: { count: 4 } } });
  cli.kill("SIGTERM");
  expect(await listener.next()).toBeUndefined();
  expect(await cli.ended).toBe(0);
});

it("serves each of several processes on NATS, and a client beside them", { timeout: 60_000 }, async () => {
  const nats = await startServer();
  onTestFinished(() => nats.stop());
  const args = [
    "--processes",
    "2",
    "--set",
    "lease_ms=1500",
    "--set",
    "heartbeat_ms=400",
    "--http",
    "127.0.0.1:0",
  ];
  const cli = keyturn(["start", "--nats", nats.url, "--name", "twin", "--json", ...args]);
  const ready = [1, 2].map((n) => cli.event("ready", ({ name }) => name === `twin-${n}`));
  const urls = (await Promise.all(ready)).map(({ http }) => http as string);
  await cli.event("all_ready");
  const client = await connect({ nats: { servers: nats.url } });
  afterwards(() => client.disconnect());
  const beside = await serveHttp(client, { listen: "127.0.0.1:0" });
  afterwards(() => beside.close());
  urls.push(beside.url);
  const watching = await Listener.open(beside.url, "/actors/counter/a/watch");
  expect(await watching.next()).toMatchObject({ data: { turn: 0 } });
  for (const [n, url] of urls.entries())
    expect((await ask(url, "POST", "/actors/counter/a", { body: { type: "add", by: 1 } })).body.value).toBe(
      n + 1,
    );
  let seen = await watching.next();
  while (seen?.data.turn !== 3) seen = await watching.next();
  for (const url of urls) {
    const { nodes, shards } = (await ask(url, "GET", "/cluster")).body;
    expect(nodes.map(({ name }: { name: string }) => name)).toEqual(["twin-1", "twin-2"]);
    expect(shards).toHaveLength(64);
  }
  cli.kill("SIGTERM");
  expect(await cli.ended).toBe(0);
});

it("refuses what it cannot serve", { timeout: 60_000 }, async () => {
  const at = ["start", "--data", temporaryPath()];
  const cases: [string[], number, RegExp][] = [
    [[...at, "--http", "8080"], 2, /It is HOST:PORT/],
    [[...at, "--http-cors", "*"], 2, /--http HOST:PORT/],
    [[...at, "--http", ":0", "--http-set", "streems=1"], 2, /The bounds are/],
    [[...at, "--http", ":0", "--http-issuer", "me"], 2, /--http-jwks URL/],
    [[...at, "--http", "192.0.2.1:80"], 1, /HTTP cannot be served/],
  ];
  const ended = await Promise.all(cases.map(([args]) => keyturnEnded(args)));
  for (const [n, { code, stdout, stderr }] of ended.entries()) {
    const [, wanted, text] = cases[n] as (typeof cases)[number];
    expect([code, stdout, stderr]).toEqual([wanted, "", expect.stringMatching(text)]);
    expect(stderr).not.toMatch(/^\s+at /m);
  }
});
