/** `keyturn start --http`, as a process. */
import { SignJWT } from "jose";
import { expect, it } from "vitest";
import { keyturn, keyturnEnded, withPackage } from "./support/cli.ts";
import { ask, expectProblem, Listener } from "./support/http.ts";
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
