/** Dead letters over HTTP: who may send one again or drop it, and what becomes of it. */
import { assign, setup } from "xstate";
import { expect, it } from "vitest";
import { defineActor } from "keyturn";
import type { HttpOptions } from "keyturn/http";
import { expectProblem, type Served, served } from "./support/http.ts";

const machine = setup({
  types: { context: {} as { taken: number }, events: {} as { type: "open" } | { type: "put" } },
}).createMachine({
  context: { taken: 0 },
  initial: "closed",
  states: {
    closed: { on: { open: "open" } },
    open: {},
  },
  on: {
    put: {
      actions: assign({
        taken: ({ context, self }) => {
          if (self.getSnapshot().value === "closed") throw new Error("It is closed.");
          return context.taken + 1;
        },
      }),
    },
  },
});
const box = defineActor({ type: "box", machine });

/** A server with three letters for one box that is closed. */
async function withLetters(options: HttpOptions = {}): Promise<Served> {
  const all = await served([box], options);
  await all.node.store.deadLetters.put(
    [1, 2, 3].map((seq) => ({
      position: seq,
      index: 0,
      type: "box",
      key: "a/b",
      event: { type: "put" },
      time: seq,
      code: "machine_failed",
      reason: "It is closed.",
    })),
  );
  return all;
}

const idsIn = async ({ call }: Served): Promise<string[]> =>
  (await call("GET", "/dead-letters")).body.letters.map(({ id }: { id: string }) => id);

it("a letter is sent again, stays while it is refused, and goes once it is taken", async () => {
  const all = await withLetters();
  const { call, node } = all;
  expectProblem(await call("POST", "/dead-letters/2.0/retry"), 422, "machine_failed");
  expect(await idsIn(all)).toEqual(["1.0", "2.0", "3.0"]);
  const ref = node.client.actor(box, "a/b");
  await ref.send({ type: "open" });
  const answer = await call("POST", "/dead-letters/2.0/retry");
  expect([answer.status, answer.body]).toEqual([204, ""]);
  expect(await idsIn(all)).toEqual(["1.0", "3.0"]);
  expect((await ref.get()).context).toEqual({ taken: 1 });
  expectProblem(await call("POST", "/dead-letters/2.0/retry"), 404, "invalid_options");
});

it("two who send the same letter again at once apply it once", async () => {
  const { call, node } = await withLetters();
  const ref = node.client.actor(box, "a/b");
  await ref.send({ type: "open" });
  const answers = await Promise.all(Array.from({ length: 8 }, () => call("POST", "/dead-letters/1.0/retry")));
  expect(answers.filter(({ status }) => status === 204).length).toBeGreaterThan(0);
  for (const { status } of answers) expect([204, 404]).toContain(status);
  expect((await ref.get()).context).toEqual({ taken: 1 });
});

it("a letter is dropped, and only that one", async () => {
  const all = await withLetters();
  const { call, node } = all;
  expect((await call("DELETE", "/dead-letters/1.0")).status).toBe(204);
  expect(await idsIn(all)).toEqual(["2.0", "3.0"]);
  expectProblem(await call("DELETE", "/dead-letters/1.0"), 404, "invalid_options");
  expect((await node.client.actor(box, "a/b").get()).turn).toBe(0);
});

it("what is no id of a letter is refused", async () => {
  const { call } = await withLetters();
  for (const id of ["1", "1-0", "x", "1.0.0.0", "99999999999999999.0", "%2e%2e%2f"])
    for (const [method, path] of [
      ["DELETE", `/dead-letters/${id}`],
      ["POST", `/dead-letters/${id}/retry`],
    ] as const)
      expectProblem(await call(method, path), 400, "invalid_options");
  expectProblem(await call("DELETE", "/dead-letters/1.0?all=true"), 400, "invalid_options");
  expectProblem(await call("GET", "/dead-letters/1.0/retry"), 405, "invalid_options");
});

it("it is asked who may do it, with the letter's actor, and nobody else learns whether it is there", async () => {
  const wishes: object[] = [];
  const may = new Set(["deadLetters"]);
  const all = await withLetters({
    authorize: ({ action, type, key, event }) => {
      wishes.push({ action, type, key, event });
      return may.has(action);
    },
  });
  const { call } = all;
  expectProblem(await call("POST", "/dead-letters/1.0/retry"), 403, "access_denied");
  expect(wishes.at(-1)).toEqual({
    action: "retryDeadLetter",
    type: "box",
    key: "a/b",
    event: { type: "put" },
  });
  expectProblem(await call("DELETE", "/dead-letters/1.0"), 403, "access_denied");
  expect(wishes.at(-1)).toEqual({ action: "dropDeadLetter", type: "box", key: "a/b", event: undefined });
  expect(await idsIn(all)).toHaveLength(3);
  may.clear();
  for (const id of ["1.0", "7.0"]) {
    expectProblem(await call("DELETE", `/dead-letters/${id}`), 403, "access_denied");
    expectProblem(await call("POST", `/dead-letters/${id}/retry`), 403, "access_denied");
  }
});
