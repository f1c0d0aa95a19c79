/** Forks and what-ifs over HTTP: what they do, and where they end. */
import { assign, emit, setup } from "xstate";
import { expect, it } from "vitest";
import { defineActor, fromDurablePromise, reply, tell } from "keyturn";
import { expectProblem, served } from "./support/http.ts";
import { order } from "./support/tracked-order.ts";

const machine = setup({
  types: {
    context: {} as { total: number; at: Date },
    events: {} as { type: "put"; price: number } | { type: "pay"; at: Date } | { type: "spin" },
  },
  actors: { charge: fromDurablePromise(async () => 1) },
}).createMachine({
  context: { total: 0, at: new Date(0) },
  initial: "open",
  states: {
    open: {
      after: { 3600000: "late" },
      on: {
        put: {
          actions: [
            assign({ total: ({ context, event }) => context.total + event.price }),
            reply(({ context }) => context.total),
          ],
        },
        pay: {
          target: "paying",
          actions: [
            assign({ at: ({ event }) => event.at }),
            tell("account/ada", { type: "debit" }),
            emit({ type: "basket.paid" }),
          ],
        },
        spin: "spinning",
      },
    },
    paying: { invoke: { src: "charge", onDone: "paid" } },
    late: {},
    paid: { type: "final" },
    spinning: { after: { 10: "back" } },
    back: { after: { 10: "spinning" } },
  },
});
const basket = defineActor({ type: "basket", machine });

it("a fork begins another actor with the state after a turn", async () => {
  const { call, node } = await served([basket]);
  const ref = node.client.actor(basket, "a");
  for (let price = 1; price <= 5; price++) await ref.send({ type: "put", price });
  const made = await call("POST", "/actors/basket/a/fork", { body: { at: 3, to: "basket/a/try" } });
  expect([made.status, made.headers.get("location")]).toEqual([201, "/actors/basket/a%2Ftry"]);
  expect(made.body).toMatchObject({ value: "open", context: { total: 6 }, turn: 1 });
  expect((await call("GET", "/actors/basket/a%2Ftry")).headers.get("etag")).toBe(made.headers.get("etag"));
  const { position } = (await ref.past(4)) as { position: number };
  const other = await call("POST", "/actors/basket/a/fork", {
    body: { at: { position }, to: "basket/b", timers: "keep" },
  });
  expect(other.body.context.total).toBe(10);
  expect((await call("GET", "/actors/basket/b/timers")).body.timers).toHaveLength(1);
  expect((await call("GET", "/actors/basket/a%2Ftry/timers")).body.timers).toEqual([]);
  expect(await ref.get()).toMatchObject({ turn: 5, context: { total: 15 } });
});

it("a fork that cannot be is refused by name", async () => {
  const { call, node } = await served([basket, order]);
  await node.client.actor(basket, "a").send({ type: "put", price: 1 });
  const refused = async (body: unknown, status: number, code: string): Promise<void> =>
    expectProblem(await call("POST", "/actors/basket/a/fork", { body }), status, code);
  await refused({ to: "basket/a" }, 400, "invalid_options");
  await refused({ to: "order/b" }, 400, "invalid_options");
  await refused({ to: "basket" }, 400, "invalid_address");
  await refused({}, 400, "invalid_address");
  await refused([], 400, "invalid_options");
  await refused({ to: "basket/b", into: 1 }, 400, "invalid_options");
  for (const at of [0, 9, 1.5, "1", { turn: 1 }, [], true])
    await refused({ to: "basket/b", at }, 400, "invalid_options");
  await refused({ to: "basket/b", timers: "later" }, 400, "invalid_options");
  expect((await call("POST", "/actors/basket/a/fork", { body: { to: "basket/b" } })).status).toBe(201);
  await refused({ to: "basket/b" }, 409, "already_exists");
});

it("a what-if tells what events would do, as time passes, and does nothing", async () => {
  const { call, node } = await served([basket]);
  const ref = node.client.actor(basket, "a");
  for (let price = 1; price <= 3; price++) await ref.send({ type: "put", price });
  const { status, body } = await call("POST", "/actors/basket/a/what-if", {
    body: {
      at: 2,
      events: [
        { type: "put", price: 5 },
        { type: "nonsense" },
        { after: "2 minutes", event: { type: "pay", at: { "~date": "2026-01-31T12:00:00.000Z" } } },
      ],
    },
  });
  expect(status).toBe(200);
  expect(body.from).toMatchObject({ turn: 2 });
  expect(body.steps).toMatchObject([
    {
      event: { type: "put", price: 5 },
      fired: false,
      state: { value: "open", context: { total: 8 } },
      changes: [{ path: "context.total", before: 3, after: 8 }],
      replied: true,
      reply: 8,
    },
    { event: { type: "nonsense" }, refused: { code: "invalid_event" }, state: { context: { total: 8 } } },
    {
      time: body.from.time + 120_000,
      state: { value: "paying", context: { at: { "~date": "2026-01-31T12:00:00.000Z" } } },
      told: [{ to: "account/ada", event: { type: "debit" }, asked: false }],
      emitted: [{ type: "basket.paid" }],
      begun: ["0.(machine).paying"],
    },
  ]);
  expect(body.state).toMatchObject({ value: "paying", context: { total: 8 } });
  const late = await call("POST", "/actors/basket/a/what-if", { body: { events: [{ after: 3_600_000 }] } });
  expect(late.body.steps).toMatchObject([{ fired: true, state: { value: "late" } }]);
  expect(await ref.get()).toMatchObject({ turn: 3, value: "open", context: { total: 6 } });
  expect((await node.client.actor(basket, "new").get()).turn).toBe(0);
});

it("an actor that no message has reached may be asked too", async () => {
  const { call } = await served([basket]);
  const { body } = await call("POST", "/actors/basket/new/what-if", {
    body: { events: [{ type: "put", price: 1 }] },
  });
  expect(body).toMatchObject({ from: null, state: { context: { total: 1 } } });
  expectProblem(
    await call("POST", "/actors/basket/new/what-if", { body: { at: 1, events: [] } }),
    400,
    "invalid_options",
  );
});

it("a what-if ends at its bounds, and what is no question is refused", async () => {
  const { call, faults } = await served([basket, order], {
    limits: { whatIfSteps: 20, answerBytes: 3_000 },
  });
  const refused = async (body: unknown, status: number, code: string): Promise<void> =>
    expectProblem(await call("POST", "/actors/basket/a/what-if", { body }), status, code);
  await refused({ events: [{ type: "spin" }, { after: "1 year" }] }, 400, "invalid_options");
  await refused({ events: Array(21).fill({ type: "spin" }) }, 400, "invalid_options");
  await refused({ events: Array(20).fill({ type: "put", price: 1 }) }, 413, "invalid_options");
  await refused({ events: [{ after: "soon" }] }, 400, "invalid_options");
  await refused({ events: [{ after: -1 }] }, 400, "invalid_options");
  await refused({ events: [7] }, 400, "invalid_options");
  await refused({ events: [{ other: 7 }] }, 400, "invalid_options");
  await refused({ events: { type: "put" } }, 400, "invalid_options");
  await refused({ events: [], more: true }, 400, "invalid_options");
  await refused(undefined, 400, "invalid_options");
  await refused({ events: [{ type: "put", price: { "~date": "never" } }] }, 422, "invalid_event");
  expectProblem(await call("POST", "/actors/none/a/what-if", { body: { events: [] } }), 404, "unknown_type");
  expect(faults).toEqual([]);
});

it("who may fork or ask what if is asked for, and for a fork who may begin the sandbox", async () => {
  const wishes: string[] = [];
  let may = ["fork"];
  const { call, node } = await served([basket], {
    authorize: ({ action, type, key }) => {
      wishes.push(`${action} ${type}/${key}`);
      return may.includes(action);
    },
  });
  await node.client.actor(basket, "a").send({ type: "put", price: 1 });
  const fork = () => call("POST", "/actors/basket/a/fork", { body: { to: "basket/b" } });
  expectProblem(await fork(), 403, "access_denied");
  expect(wishes).toEqual(["fork basket/a", "create basket/b"]);
  may = ["create"];
  expectProblem(await fork(), 403, "access_denied");
  expectProblem(
    await call("POST", "/actors/basket/a/what-if", { body: { events: [] } }),
    403,
    "access_denied",
  );
  expect((await node.client.actor(basket, "b").get()).turn).toBe(0);
  may = ["fork", "create"];
  expect((await fork()).status).toBe(201);
});
