/** Who may come in, and what he may do there: tokens, the authorisation hook, pages of other origins. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { AuthOptions, HttpOptions, Wish } from "keyturn/http";
import { expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import {
  afterwards,
  type Answer,
  expectProblem,
  Listener,
  RawConnection,
  type Served,
  served,
} from "./support/http.ts";

const SECRET = "a secret of thirty-two bytes or more";
const ISSUER = "https://issuer.example";

interface Claims {
  readonly sub?: string;
  readonly exp?: number | undefined;
  readonly iss?: string;
  readonly aud?: string;
}

function sign(claims: Claims, secret = SECRET, alg = "HS256"): Promise<string> {
  const { exp = Math.floor(Date.now() / 1_000) + 60, ...others } = claims;
  return new SignJWT({
    iss: ISSUER,
    aud: "keyturn",
    ...others,
    ...("exp" in claims && claims.exp === undefined ? {} : { exp }),
  })
    .setProtectedHeader({ alg })
    .sign(new TextEncoder().encode(secret));
}

function guarded(
  auth: AuthOptions = { secret: SECRET, issuer: ISSUER, audience: "keyturn" },
  more: HttpOptions = {},
): Promise<Served> {
  return served([counter], { auth, ...more });
}

function as(token: string): { headers: Record<string, string> } {
  return { headers: { authorization: `Bearer ${token}` } };
}

function expectUnknown(answer: Answer): void {
  expectProblem(answer, 401, "access_denied");
  expect(answer.headers.get("www-authenticate")).toMatch(/^Bearer realm="keyturn"/);
}

it("lets those in who have a token, and everybody to the probes", async () => {
  const { call } = await guarded();
  expect((await call("GET", "/actors/counter/a", as(await sign({ sub: "ada" })))).status).toBe(200);
  for (const path of ["/actors/counter/a", "/health", "/openapi.json", "/cluster", "/nothing"])
    expectUnknown(await call("GET", path));
  expect((await call("GET", "/livez")).status).toBe(200);
  expect((await call("GET", "/readyz")).status).toBe(200);
});

it("refuses tokens that are expired, forged, for others, or none", async () => {
  const { call, faults } = await guarded();
  const now = Math.floor(Date.now() / 1_000);
  const good = await sign({ sub: "ada" });
  const [head, , signature] = good.split(".");
  const claims = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const none = `${claims({ alg: "none" })}.${claims({ sub: "ada", exp: now + 60, iss: ISSUER, aud: "keyturn" })}.`;
  const bad = [
    await sign({ sub: "ada", exp: now - 60 }),
    await sign({ sub: "ada", exp: undefined }),
    await sign({ sub: "ada", iss: "https://elsewhere.example" }),
    await sign({ sub: "ada", aud: "others" }),
    await sign({ sub: "ada" }, "another secret of thirty-two bytes or more"),
    `${head}.${claims({ sub: "root", exp: now + 60, iss: ISSUER, aud: "keyturn" })}.${signature}`,
    none,
    `${good}x`,
    "x",
    "x".repeat(10_000),
  ];
  for (const token of bad) expectUnknown(await call("GET", "/actors/counter/a", as(token)));
  for (const authorization of ["", "Basic YTpi", "Bearer", "Bearer a b", good])
    expectUnknown(await call("GET", "/actors/counter/a", { headers: { authorization } }));
  // Twice the same answer: what was found wrong is not remembered as right.
  for (let n = 0; n < 2; n++) expectUnknown(await call("GET", "/actors/counter/a", as(bad[0] as string)));
  expect(faults).toEqual([]);
});

it("takes the issuer's published keys, and never a public key as a secret", async () => {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), alg: "ES256", kid: "one" };
  const issuer = createServer((_, response) => {
    if (issuerIsDown) response.writeHead(500).end();
    else response.end(JSON.stringify({ keys: [jwk] }));
  });
  let issuerIsDown = true;
  await new Promise<void>((resolve) => issuer.listen(0, "127.0.0.1", resolve));
  afterwards(async () => issuer.close());
  const { call } = await guarded({
    jwks: `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/jwks.json`,
  });
  const token = await new SignJWT({ sub: "ada" })
    .setProtectedHeader({ alg: "ES256", kid: "one" })
    .setExpirationTime("1 minute")
    .sign(privateKey);
  // That the issuer is away is not the caller's fault.
  const away = await call("GET", "/actors/counter/a", as(token));
  expectProblem(away, 503, "unreachable");
  expect(away.headers.get("retry-after")).toBe("5");
  issuerIsDown = false;
  expect((await call("GET", "/actors/counter/a", as(token))).status).toBe(200);
  expectUnknown(await call("GET", "/actors/counter/a", as(await sign({ sub: "ada" }, JSON.stringify(jwk)))));
});

it("asks the hook about every address and event, and refuses what it does not allow", async () => {
  const wishes: Wish[] = [];
  const { call, server, faults, node } = await guarded(undefined, {
    authorize: async (wish) => {
      wishes.push(wish);
      const { subject, action, key, event } = wish;
      if (action === "cluster") throw new Error("The hook failed.");
      if (action === "find") return "yes" as unknown as boolean;
      return (
        subject === "root" || (key === subject && (event as { type?: string } | undefined)?.type !== "off")
      );
    },
  });
  const ada = as(await sign({ sub: "ada" }));
  const body = { type: "add", by: 1 };
  expect((await call("POST", "/actors/counter/ada", { body, ...ada })).status).toBe(200);
  expect(wishes.at(-1)).toMatchObject({
    subject: "ada",
    action: "ask",
    type: "counter",
    key: "ada",
    event: body,
    claims: { iss: ISSUER },
  });
  expectProblem(await call("POST", "/actors/counter/bob", { body, ...ada }), 403, "access_denied");
  expectProblem(
    await call("POST", "/actors/counter/ada", { body: { type: "off" }, ...ada }),
    403,
    "access_denied",
  );
  for (const path of [
    "/actors/counter/bob",
    "/actors/counter/bob/history",
    "/actors/counter/bob/timers",
    "/actors/counter/bob/watch",
    "/actors/counter",
    "/types/counter/count",
    "/events?type=counter",
    "/cluster",
    "/types",
    "/dead-letters",
    "/health",
    "/openapi.json",
  ])
    expectProblem(await call("GET", path, ada), 403, "access_denied");
  expectProblem(await call("DELETE", "/actors/counter/bob", ada), 403, "access_denied");
  expectProblem(await call("DELETE", "/actors/counter/bob/timers/x", ada), 403, "access_denied");
  expectProblem(await call("POST", "/actors/counter/bob?mode=create", ada), 403, "access_denied");
  const { results } = (
    await call("POST", "/batch", {
      body: {
        requests: [
          { address: "counter/ada", event: body },
          { address: "counter/bob", event: body },
          { address: "counter/bob", mode: "get" },
        ],
      },
      ...ada,
    })
  ).body;
  expect(results.map(({ status }: { status: number }) => status)).toEqual([200, 403, 403]);
  expect((await node.client.actor(counter, "bob").get()).turn).toBe(0);
  expect(faults).toMatchObject([{ message: "The hook failed." }]);
  expect(server.streams).toBe(0);
});

it("keeps the request ids of different subjects apart", async () => {
  const { call } = await guarded();
  const add = async (sub: string): Promise<Answer> =>
    call("POST", "/actors/counter/a", {
      body: { type: "add", by: 1 },
      headers: { ...as(await sign({ sub })).headers, "idempotency-key": "mine" },
    });
  expect((await add("ada")).body.value).toBe(1);
  expect((await add("bob")).body.value).toBe(2);
  expect((await add("ada")).body.value).toBe(1);
});

it("ends a stream when its token does", async () => {
  const { server } = await guarded(
    { secret: SECRET, clockTolerance_s: 60 },
    { limits: { heartbeat_ms: 20 } },
  );
  const headers = as(await sign({ sub: "ada", exp: Math.floor(Date.now() / 1_000) - 1 })).headers;
  const listener = await Listener.open(server.url, "/actors/counter/a/watch", headers);
  expect(await listener.next()).toMatchObject({ event: "state" });
  expect(await listener.next()).toBeUndefined();
});

it("answers pages of the origins that are named, and no others", async () => {
  const origin = "https://shop.example";
  const { call } = await guarded(undefined, { cors: { origins: [origin] } });
  const preflight = (from: string): Promise<Answer> =>
    call("OPTIONS", "/actors/counter/a", {
      headers: {
        origin: from,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
      },
    });
  const allowed = await preflight(origin);
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get("access-control-allow-origin")).toBe(origin);
  expect(allowed.headers.get("access-control-allow-headers")).toMatch(/authorization.*idempotency-key/);
  expectProblem(await preflight("https://elsewhere.example"), 403, "access_denied");
  const { headers } = as(await sign({ sub: "ada" }));
  const mine = await call("GET", "/actors/counter/a", { headers: { ...headers, origin } });
  expect(mine.headers.get("access-control-allow-origin")).toBe(origin);
  expect(mine.headers.get("access-control-expose-headers")).toMatch(/etag/);
  expect(mine.headers.get("vary")).toBe("origin");
  const other = await call("GET", "/actors/counter/a", {
    headers: { ...headers, origin: "https://elsewhere.example" },
  });
  expect(other.headers.get("access-control-allow-origin")).toBeNull();
  // Also a refusal can be read by the page.
  const refused = await call("GET", "/actors/counter/a", { headers: { origin } });
  expectUnknown(refused);
  expect(refused.headers.get("access-control-allow-origin")).toBe(origin);
});

it("without tokens, is open to no page of another site and by no other name", async () => {
  const { call, server, node } = await served([counter]);
  const foreign = { headers: { origin: "https://elsewhere.example", "content-type": "application/json" } };
  expectProblem(
    await call("POST", "/actors/counter/a", { body: { type: "add", by: 1 }, ...foreign }),
    403,
    "access_denied",
  );
  expectProblem(
    await call("POST", "/actors/counter/a?mode=create", { headers: { origin: "null" } }),
    403,
    "access_denied",
  );
  expect(
    (await call("POST", "/actors/counter/a", { body: { type: "on" }, headers: { origin: server.url } }))
      .status,
  ).toBe(200);
  expect((await node.client.actor(counter, "a").get()).turn).toBe(1);
  for (const named of [
    "/actors/counter/a HTTP/1.1\r\nHost: rebound.example",
    "http://rebound.example/actors/counter/a HTTP/1.1\r\nHost: localhost",
  ]) {
    const raw = new RawConnection(server);
    raw.write(`GET ${named}\r\nConnection: close\r\n\r\n`);
    expect(await raw.ended()).toMatch(/^HTTP\/1\.1 421 [\s\S]*"code":"access_denied"/);
  }
});

it("takes the token of a stream in its address, once, and of nothing else", async () => {
  const { server, call } = await guarded();
  const token = await sign({ sub: "ada" });
  for (const path of ["/actors/counter/a/watch?", "/actors/counter/a/inspect?", "/events?type=counter&"]) {
    const listener = await Listener.open(server.url, `${path}access_token=${token}`);
    expect(listener.response.status).toBe(200);
    // Nobody else is to be shown it (RFC 6750, 2.3).
    expect(listener.response.headers.get("cache-control")).toContain("private");
    listener.leave();
    expectUnknown(await call("GET", `${path}access_token=${token}x`));
    expectUnknown(await call("GET", `${path}access_token=`));
    expectProblem(
      await call("GET", `${path}access_token=${token}&access_token=${token}`),
      400,
      "invalid_options",
    );
    expectProblem(await call("GET", `${path}access_token=${token}`, as(token)), 400, "invalid_options");
  }
  for (const path of [
    "/actors/counter/a",
    "/actors/counter",
    "/actors/counter/a/history",
    "/cluster",
    "/nothing",
  ])
    expectUnknown(await call("GET", `${path}?access_token=${token}`));
  expectUnknown(
    await call("POST", `/actors/counter/a?access_token=${token}`, { body: { type: "add", by: 1 } }),
  );
  // With a token in the header it is a parameter that is not known, and what it holds is not repeated.
  const answer = await call("GET", `/actors/counter/a?access_token=${token}`, as(token));
  expectProblem(answer, 400, "invalid_options");
  expect(JSON.stringify(answer.body)).not.toContain(token);
});

it("leaves out of lists and streams what their reader may not see, where the hook wants each asked", async () => {
  const wishes: Wish[] = [];
  const { server, call, node, faults } = await guarded(undefined, {
    authorize: (wish) => {
      wishes.push(wish);
      if (wish.key === undefined) return "each";
      if (wish.key === "broken") throw new Error("It does not know.");
      return wish.key.startsWith(wish.subject ?? "nobody");
    },
  });
  const add = (key: string): Promise<unknown> => node.client.actor(counter, key).send({ type: "add", by: 1 });
  for (const key of ["ada1", "ada2", "bob1", "bob2", "bob3", "bob4", "ada3", "broken"]) await add(key);
  const ada = as(await sign({ sub: "ada" }));
  // No request looks through more than a page, even if nothing of it may be seen.
  const pages: string[][] = [];
  let cursor: string | undefined;
  do {
    const more = cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { body } = await call("GET", `/actors/counter?limit=2${more}`, ada);
    pages.push(body.actors.map(({ key }: { key: string }) => key));
    cursor = body.next;
  } while (cursor !== undefined);
  expect(pages).toContainEqual([]);
  expect(pages.flat()).toEqual(["ada1", "ada2", "ada3"]);
  expect(faults).toMatchObject([{ message: "It does not know." }]);
  expect(wishes.filter(({ action, key }) => action === "find" && key === "bob1")).toHaveLength(1);
  expect((await call("GET", "/types/counter/timers", ada)).body).toEqual({ timers: [] });
  // What cannot be told apart is refused.
  for (const path of ["/types/counter/count", "/types", "/cluster", "/dead-letters"])
    expectProblem(await call("GET", path, ada), 403, "access_denied");
  const listener = await Listener.open(server.url, "/events?type=counter&initial=false", ada.headers);
  await listener.id();
  for (const key of ["bob1", "ada1"]) await add(key);
  await node.client.actor(counter, "bob1").delete();
  await node.client.actor(counter, "ada2").delete();
  // Shards answer each for itself, in whatever order.
  const told = [await listener.next(), await listener.next()].sort((x, y) =>
    x?.data.key < y?.data.key ? -1 : 1,
  );
  expect(told).toMatchObject([
    { event: "changed", data: { key: "ada1" } },
    { event: "gone", data: { key: "ada2" } },
  ]);
});
