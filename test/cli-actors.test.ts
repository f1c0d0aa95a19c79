/** The commands that ask and look, in this process, on a node that has its folder open: over the socket in it. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { assign, setup } from "xstate";
import { defineActor, embedded, type KeyturnNode, reply, startNode, tell } from "../runtime/index.ts";
import { createClient } from "../runtime/client/client.ts";
import { Output } from "../runtime/cli/output.ts";
import type { Shell } from "../runtime/cli/shell.ts";
import { serveStore, socketStore, type StoreServer } from "../runtime/stores/socket/index.ts";
import { CALL, FRAMES, SUBSCRIBE } from "../runtime/stores/socket/wire.ts";
import { encode } from "../runtime/words/codec.ts";
import { realWorld } from "../runtime/world.ts";
import { cli } from "./support/cli-run.ts";

const order = defineActor({
  type: "order",
  index: ["total", "customer.id"],
  machine: setup({
    types: {
      context: {} as { total: number; customer: { id: string } },
      events: {} as
        | { type: "add"; by: number }
        | { type: "pay" }
        | { type: "notify" }
        | { type: "fail" }
        | { type: "who"; id: string },
    },
    actions: {
      fail: () => {
        throw new Error("no");
      },
    },
    delays: { later: 3_600_000 },
  }).createMachine({
    context: { total: 0, customer: { id: "nobody" } },
    initial: "open",
    states: {
      open: {
        initial: "waiting",
        states: { waiting: { after: { later: "late" } }, late: {} },
        on: {
          add: {
            actions: [
              assign({ total: ({ context, event }) => context.total + event.by }),
              reply(({ context }) => ({ total: context.total })),
            ],
          },
          who: { actions: assign({ customer: ({ event }) => ({ id: event.id }) }) },
          notify: { actions: tell("nowhere/x", { type: "hello" }) },
          fail: {
            actions: assign(() => {
              throw new Error("it cannot");
            }),
          },
          pay: "paid",
        },
      },
      paid: { type: "final" },
    },
  }),
});

let data: string;
let node: KeyturnNode;
let server: StoreServer;

beforeAll(async () => {
  data = mkdtempSync(join(tmpdir(), "keyturn-cli-"));
  node = await startNode({
    actors: [order],
    store: embedded({ path: data, durability: "process" }),
    name: "ada",
    shards: 8,
  });
  server = await serveStore(node.store, data);
});
afterAll(async () => {
  await server.close();
  await node.stop();
  rmSync(data, { recursive: true, force: true });
});

const on = (...args: string[]) => cli([...args, "--data", data]);

describe("what is wrong with a command line", () => {
  it("is said in one way, and to programs too", async () => {
    for (const [args, says] of [
      [["nonsense"], /^keyturn: unknown command 'nonsense'/],
      [["get"], /^keyturn: missing required argument 'address'/],
      [["find", "order", "--where", "total"], /^keyturn: option .* is no condition: it is PATH=VALUE/],
      [["list", "--lmit", "3"], /^keyturn: unknown option '--lmit'\n\(Did you mean --limit\?\)/],
    ] as const) {
      const people = await cli(args);
      expect(people).toMatchObject({ code: 2, stdout: "" });
      expect(people.stderr).toMatch(says);
      const programs = await cli([...args, "--json"]);
      expect(programs).toMatchObject({
        code: 2,
        rows: [{ event: "failed", error: { code: "invalid_options", outcome: "rejected" } }],
      });
      expect((programs.rows[0] as { error: Error }).error.message).not.toMatch(/^error/);
    }
    expect(await cli(["--help", "--json"])).toMatchObject({ code: 0, stderr: "" });
  });

  it("names the types there are, to whoever names another", async () => {
    for (const args of [
      ["count", "ordr"],
      ["find", "ordr"],
      ["send", "ordr/1", "pay"],
      ["get", "ordr/1"],
    ])
      expect(await on(...args)).toMatchObject({
        code: 5,
        stderr: 'keyturn: No node here hosts actors of the type "ordr". There are: order.\n',
      });
    expect(await on("count", "order", "--state", "pade")).toMatchObject({
      code: 2,
      stderr:
        'keyturn: The machine of "order" has no state "pade". There are: open, open.waiting, open.late, paid.\n',
    });
  });
});

describe("tables", () => {
  const shell = (stream: object): Shell =>
    ({ stdout: stream, env: { NO_COLOR: "1" }, args: [] }) as unknown as Shell;
  const columns = [{ head: "key" }, { head: "turn", right: true }, { head: "event" }, { head: "" }];
  const rows = [["a", "12345", JSON.stringify({ type: "add", item: "tea" }), ""]];
  const widest = (text: string): number => Math.max(...text.split("\n").map((line) => line.length));

  it("fit into the terminal, if it is not too narrow; whoever reads a pipe gets all of it", () => {
    const whole = new Output(shell({}), {}).tableText(columns, rows);
    expect(whole).toContain(rows[0]?.[2]);
    const wide = new Output(shell({ isTTY: true, columns: 200 }), {}).tableText(columns, rows);
    expect(wide).toBe(whole);
    const narrow = new Output(shell({ isTTY: true, columns: 30 }), {}).tableText(columns, rows);
    expect(widest(narrow)).toBeLessThanOrEqual(30);
    expect(narrow).toMatch(/^a +12345 +\{"type":"\S*…/m);
    // There is no sense in less.
    const tiny = new Output(shell({ isTTY: true, columns: 3 }), {}).tableText(columns, rows);
    expect(tiny).toMatch(/12345/);
  });

  it("values are broken where the terminal ends", () => {
    const value = { items: ["tea", "cake", "milk"], total: 17, note: "to be fetched" };
    expect(new Output(shell({}), {}).value(value)).not.toContain("\n");
    expect(widest(new Output(shell({ columns: 40 }), {}).value(value))).toBeLessThanOrEqual(40);
  });
});

describe("send, ask and create", () => {
  it("asks, with an event in any form, and prints the reply", async () => {
    expect(await on("ask", "order/a b/ä", '{"type":"add","by":1}')).toMatchObject({
      code: 0,
      stdout: "{ total: 1 }\n",
      stderr: "",
    });
    expect(await on("ask", "order/a b/ä", "add", "by=2", "--json")).toMatchObject({
      code: 0,
      rows: [{ event: "answered", address: "order/a b/ä", value: { total: 3 } }],
    });
    const file = join(data, "event.json");
    writeFileSync(file, '{"type":"add","by":4}');
    expect((await on("ask", "order/a b/ä", `@${file}`)).stdout).toBe("{ total: 7 }\n");
    const piped = await cli(["ask", "order/a b/ä", "-", "--data", data], { stdin: '{"type":"add","by":8}' });
    expect(piped.stdout).toBe("{ total: 15 }\n");
    // Without a reply, the new state.
    expect((await on("ask", "order/a b/ä", "who", "id=ada")).stdout).toMatch(/customer: { id: 'ada' }/);
  });

  it("applies what carries one request id once", async () => {
    const args = ["ask", "order/once", "add", "by=5", "--request-id", "r1", "--json"];
    const [first, again] = [await on(...args), await on(...args)];
    expect(first.rows).toEqual([
      { event: "answered", address: "order/once", requestId: "r1", value: { total: 5 } },
    ]);
    expect(again.rows).toEqual(first.rows);
    expect((await on("get", "order/once", "--json")).rows).toMatchObject([
      { turn: 1, context: { total: 5 } },
    ]);
  });

  it("sends, and says nothing unless it is asked to", async () => {
    expect(await on("send", "order/sent", "add", "by=1")).toEqual(
      expect.objectContaining({ code: 0, stdout: "", stderr: "" }),
    );
    const told = await on("send", "order/sent", "add", "by=1", "--json", "--request-id", "q");
    expect(told.rows).toEqual([{ event: "sent", address: "order/sent", requestId: "q" }]);
  });

  it("creates once, and shows what has begun as get does", async () => {
    const made = await on("create", "order/made", "customer=ada");
    expect(made.code).toBe(0);
    expect(made.stdout).toBe((await on("get", "order/made")).stdout);
    expect(await on("create", "order/made", '{"a":1}', "--json")).toMatchObject({
      code: 3,
      rows: [{ event: "failed", error: { code: "already_exists" } }],
    });
  });

  it.each<[string[], number, RegExp]>([
    [["ask", "order/x", "{"], 2, /The event is not JSON/],
    [["ask", "order/x", "[]"], 2, /An event is an object with a type/],
    [["ask", "order/x", '{"type":"add"}', "by=1"], 2, /belong to an event that is named by its type/],
    [["ask", "order/x", "add", "by"], 2, /"by" is no field/],
    [["ask", "order/x", "@/nowhere.json"], 2, /cannot be read/],
    [["ask", "order", "add"], 2, /is not an address/],
    [["ask", "order/", "add"], 2, /key is empty/],
    [["ask", "order/x"], 2, /missing required argument 'event'/],
    [["ask", "order/x", "add", "--timeout", "soon"], 2, /number of seconds, or a text such as/],
    [["ask", "order/x", "fail"], 3, /it cannot/],
    [["ask", "nothing/x", "add"], 5, /type "nothing"/],
    [["ask", "order/x", "add", "by=1", "--nats", "h:1"], 2, /--nats or --data, not both/],
  ])("refuses %j with code %d", async (args, code, text) => {
    const refused = await on(...args);
    expect(refused).toMatchObject({ code, stdout: "" });
    expect(refused.stderr).toMatch(text);
    expect(refused.stderr).not.toMatch(/^\s+at /m);
  });
});

describe("get, watch, history and delete", () => {
  it("prints a state", async () => {
    await on("send", "order/shown", "add", "by=3");
    const { stdout } = await on("get", "order/shown");
    expect(stdout).toMatch(/^order\/shown {2}open\.waiting {2}turn 1, position \d+\n\{ total: 3/);
    expect((await on("get", "order/shown", "--json")).rows).toMatchObject([
      {
        address: "order/shown",
        value: { open: "waiting" },
        context: { total: 3 },
        status: "active",
        turn: 1,
      },
    ]);
    const none = await on("get", "order/none");
    expect(none).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/No message has reached order\/none/),
    });
    await node.checkpoint();
    expect((await on("get", "order/shown", "--stale", "--json")).rows).toMatchObject([{ turn: 1 }]);
    expect(await on("get", "order/none", "--stale")).toMatchObject({ code: 5, stdout: "" });
  });

  it("watches an actor, and a type, until it is told to stop or has enough", async () => {
    const seen = node.client.actor(order, "seen");
    let told: Promise<void> | undefined;
    const { rows, code } = await cli(["watch", "order/seen", "--limit", "2", "--json", "--data", data], {
      // It watches when it has printed the first state.
      onOut: () => (told ??= seen.send({ type: "add", by: 1 })),
    });
    expect(code).toBe(0);
    expect(rows).toMatchObject([
      { address: "order/seen", turn: 0 },
      { address: "order/seen", turn: 1, context: { total: 1 } },
    ]);
    await told;

    const stop = new AbortController();
    await seen.send({ type: "add", by: 76 });
    const all = await cli(["watch", "order", "--where", "total=77", "--data", data], {
      stop: stop.signal,
      onOut: (text) => {
        if (text.includes("gone")) stop.abort();
        else void seen.send({ type: "add", by: 1 });
      },
    });
    expect(all.code).toBe(0);
    expect(all.stdout).toMatch(/order\/seen {2}#2 {2}open\.waiting .*\n.*order\/seen {2}gone\n$/);
  });

  it("shows history", async () => {
    for (const by of [1, 2, 3]) await on("send", "order/old", "add", `by=${by}`);
    const newest = await on("history", "order/old", "--limit", "2");
    expect(newest.stdout).toMatch(/^turn +time +event +state *\n +3 .*"by":3.*replied \{"total":6\}\n +2 /);
    expect(newest.stderr).toMatch(/There are more turns/);
    const oldest = await on("history", "order/old", "--oldest", "--json");
    expect(oldest.rows.map(({ turn, context }) => [turn, context.total])).toEqual([
      [1, 1],
      [2, 3],
      [3, 6],
    ]);
    expect((await on("history", "order/old", "--full")).stdout).toMatch(/context: \{ total: 6/);
    expect(await on("history", "order/none")).toMatchObject({ code: 5, stdout: "" });
  });

  it("deletes", async () => {
    await on("send", "order/gone", "add", "by=1");
    expect(await on("delete", "order/gone", "order/never", "--json")).toMatchObject({
      code: 5,
      rows: [{ event: "deleted", address: "order/gone" }],
      stderr: expect.stringMatching(/order\/never does not exist/),
    });
    expect((await on("get", "order/gone")).code).toBe(5);
  });
});

describe("list, find, count and timers", () => {
  it("finds by state, conditions and age, and counts", async () => {
    for (const [key, by, id] of [
      ["f1", 10, "ada"],
      ["f2", 20, "bob"],
      ["f3", 30, "ada"],
    ] as const) {
      await node.client.actor(order, key).send({ type: "add", by });
      await node.client.actor(order, key).send({ type: "who", id });
    }
    await node.client.actor(order, "f3").send({ type: "pay" });
    const keys = async (...args: string[]) =>
      (await on("find", "order", "--prefix", "f", "--json", ...args)).rows.map(({ key }) => key);
    expect(await keys()).toEqual(["f1", "f2", "f3"]);
    expect(await keys("--where", "total>=20")).toEqual(["f2", "f3"]);
    expect(await keys("--where", "total>10", "--where", "total<30")).toEqual(["f2"]);
    expect(await keys("--where", "customer.id=ada", "--state", "open")).toEqual(["f1"]);
    expect(await keys("--where", 'customer.id=["bob","eve"]')).toEqual(["f2"]);
    expect(await keys("--where", "customer.id^=a", "--status", "done")).toEqual(["f3"]);
    expect(await keys("--older-than", "1h")).toEqual([]);
    expect(await keys("--after", "f1", "--limit", "1")).toEqual(["f2"]);
    const table = await on("find", "order", "--prefix", "f", "--limit", "2");
    expect(table.stdout).toMatch(
      /^key +state +turn +last turn +total +customer\.id\nf1 +open\.waiting +2 .* 10 +ada\nf2/,
    );
    expect(table.stderr).toMatch(/There are more: --after f2/);
    expect((await on("count", "order", "--prefix", "f", "--json")).rows).toEqual([
      { type: "order", total: 3, states: { "open.waiting": 2, paid: 1 } },
    ]);
    expect((await on("count", "order", "--prefix", "f")).stdout).toMatch(
      /open\.waiting +2\npaid +1\nall +3\n$/,
    );
    expect(await on("find", "order", "--where", "nope=1")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/not in the index/),
    });
    expect((await on("find", "order", "--where", "total")).code).toBe(2);
  });

  it("lists types and actors", async () => {
    await node.client.actor(order, "listed").send({ type: "add", by: 1 });
    const { rows } = await on("list", "--json");
    expect(rows).toMatchObject([{ type: "order", version: 1, nodes: ["ada"] }]);
    expect(rows[0].actors).toBeGreaterThan(0);
    expect((await on("list")).stdout).toMatch(/^type +version +actors +nodes +states\norder +1 /);
    expect((await on("list", "order", "--all", "--json")).rows.map(({ key }) => key)).toContain("listed");
    await node.checkpoint();
    expect((await on("list", "--stale", "--json")).rows).toMatchObject([{ type: "order" }]);
    expect((await on("list", "order", "--stale", "--all")).stdout.split("\n")).toContain("listed");
  });

  it("shows an actor's mailbox", async () => {
    await on("send", "order/m1", "pay");
    expect(await on("mailbox", "order/m1", "--json")).toMatchObject({
      code: 0,
      rows: [{ address: "order/m1", depth: 0, waiting: [], memory: "loaded", invocations: [] }],
    });
    expect((await on("mailbox", "order/m1")).stdout).toMatch(
      /^order\/m1 {2}nothing waits {2}in memory: loaded/,
    );
    expect((await on("mailbox", "none/m1")).code).toBe(5);
    expect((await on("mailbox", "order")).code).toBe(2);
  });

  it("lists and cancels timers", async () => {
    for (const key of ["t1", "t2", "t3"]) await node.client.actor(order, key).send({ type: "add", by: 1 });
    const id = "xstate.after.later.(machine).open.waiting";
    const listed = await on("timers", "order/t1");
    expect(listed.stdout).toMatch(/^address +id +child +due +event\norder\/t1 +xstate\.after\..*in \d+ [mh]/);
    expect((await on("timers", "list", "order", "--prefix", "t", "--json")).rows).toMatchObject([
      { address: "order/t1", id },
      { address: "order/t2" },
      { address: "order/t3" },
    ]);
    expect((await on("timers", "order", "--prefix", "t", "--due-before", "1m", "--json")).rows).toEqual([]);
    expect((await on("timers", "cancel", "order/t1")).code).toBe(2);
    expect((await on("timers", "cancel", "order/t1", "other")).code).toBe(5);
    expect(await on("timers", "cancel", "order/t1", id)).toMatchObject({
      code: 0,
      stdout: "Cancelled 1 timer.\n",
    });
    const rest = await on("timers", "cancel", "order", "--prefix", "t", "--all", "--json");
    expect(rest.rows).toEqual([{ event: "cancelled", target: "order", timers: 2 }]);
  });
});

describe("nodes, shards and dead letters", () => {
  it("says who is there, and who has what", async () => {
    expect((await on("nodes", "--json")).rows).toMatchObject([
      { node: "ada", shards: 8, weight: 1, leaving: false, types: expect.arrayContaining(["order"]) },
    ]);
    expect((await on("nodes")).stdout).toMatch(
      /^node +incarnation +shards .*\nada +ada-\w+ +8 +1 +active +order/,
    );
    expect((await on("shards", "--json")).rows.map(({ shard, node: at }) => [shard, at])).toEqual(
      Array.from({ length: 8 }, (_, shard) => [shard, "ada"]),
    );
    expect((await on("shards", "--of", "order/a", "--json")).rows).toHaveLength(1);
    expect((await on("shards", "--unowned", "--json")).rows).toEqual([]);
    expect(await on("drain", "eve")).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/There are ada\./),
    });
    expect(await on("drain", "ada")).toMatchObject({ code: 2, stderr: expect.stringMatching(/only node/) });
  });

  it("lists, shows, retries and drops dead letters", async () => {
    await node.client.actor(order, "teller").send({ type: "notify" });
    await node.client.actor(order, "teller").send({ type: "notify" });
    let rows: { id: string; address: string }[] = [];
    while (rows.length < 2) ({ rows } = await on("dead", "--json"));
    expect(rows).toMatchObject([
      { address: "nowhere/x", event: { type: "hello" }, code: "unknown_type" },
      {},
    ]);
    const [first, second] = rows.map(({ id }) => id) as [string, string];
    expect((await on("dead", "list")).stdout).toMatch(
      /^id +time +for +event +error.*\n\d+\.\d+ .* nowhere\/x/,
    );
    expect((await on("dead", "list", "--type", "order", "--json")).rows).toEqual([]);
    expect((await on("dead", "show", first)).stdout).toMatch(/unknown_type: /);
    expect(await on("dead", "show", "1.99")).toMatchObject({ code: 5 });
    expect(await on("dead", "show", "x")).toMatchObject({ code: 2 });
    expect(await on("dead", "drop")).toMatchObject({ code: 2 });
    // Nobody hosts the type still: it stays.
    expect(await on("dead", "retry", first, "--json")).toMatchObject({
      code: 3,
      rows: [{ event: "refused", id: first }],
    });
    expect(await on("dead", "drop", first)).toMatchObject({ code: 0, stdout: "Dropped 1 dead letter.\n" });
    expect((await on("dead", "--json")).rows).toMatchObject([{ id: second }]);

    // A letter for somebody who is there: taken once, however often it is sent.
    const letter = {
      position: 900_000,
      index: 3,
      type: "order",
      key: "revived",
      event: { type: "add", by: 1 },
      time: 1,
      code: "mailbox_full",
      reason: "full",
    };
    await node.store.deadLetters.put([letter]);
    await node.client
      .actor(order, "revived")
      .send({ type: "add", by: 1 }, { requestId: "keyturn.dead.900000.3" });
    expect(await on("dead", "retry", "--all", "--type", "order", "--json")).toMatchObject({
      code: 0,
      rows: [{ event: "retried", id: "900000.3", address: "order/revived" }],
    });
    expect((await node.client.actor(order, "revived").get()).turn).toBe(1);
    expect(await on("dead", "drop", "--all", "-y")).toMatchObject({ code: 0 });
    expect(await on("dead", "retry", "--all")).toMatchObject({ code: 5 });
    expect(await on("dead")).toMatchObject({ code: 0, stderr: "There are no dead letters.\n" });
  });
});

describe("where the actors are", () => {
  it("says so when nobody says where, and when there is nothing", async () => {
    expect(await cli(["get", "order/a"])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--nats HOST:PORT .* or --data/),
    });
    expect(await cli(["get", "order/a", "--data", join(data, "none")])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/There is no embedded store in/),
    });
    expect(existsSync(join(data, "none"))).toBe(false);
    vi.stubEnv("KEYTURN_DATA", data);
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(await cli(["get", "order/a"])).toMatchObject({ code: 5 });
    // What is said counts more than what the environment says.
    vi.stubEnv("KEYTURN_DATA", "");
    vi.stubEnv("KEYTURN_NATS", "127.0.0.1:1");
    expect(await on("get", "order/a")).toMatchObject({ code: 5 });
  });
});

describe("the socket", () => {
  const at = () => connect(server.address);
  const ended = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

  it("is for its owner alone", () => {
    expect(statSync(server.address).mode & 0o077).toBe(0);
  });

  it("ends the connection of who sends what makes no sense, and nothing else", async () => {
    const message = (kind: number, body: Uint8Array): Buffer => {
      const head = Buffer.alloc(5);
      head.writeUInt32BE(body.length + 1);
      head[4] = kind;
      return Buffer.concat([head, body]);
    };
    const subject = (text: string): Uint8Array =>
      Buffer.concat([Uint8Array.of(text.length), Buffer.from(text)]);
    const nonsense = [
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.alloc(64),
      Buffer.alloc(64, 0xff),
      message(9, Buffer.from("x")),
      message(FRAMES, Buffer.alloc(0)),
      message(FRAMES, Buffer.concat([subject("shard.0"), Buffer.from("nothing")])),
      message(FRAMES, Buffer.concat([subject("client.x"), Buffer.from([1, 0x90])])),
      message(SUBSCRIBE, Buffer.from("shard.0")),
      message(SUBSCRIBE, Buffer.from("client.>")),
      message(CALL, Buffer.from([0xc1])),
      message(CALL, encode("x")),
    ];
    for (const bytes of nonsense) {
      const socket = at();
      const over = ended(socket.resume());
      socket.write(bytes);
      await over;
    }
    // A call that does not exist, or whose arguments are wrong, is answered with an error.
    const store = await socketStore(data);
    await expect(store.journal.append("lane", 0, new Uint8Array())).rejects.toMatchObject({
      code: "store_locked",
    });
    await expect(store.directory.readShards(7 as never)).rejects.toMatchObject({ name: "KeyturnError" });
    await store.close();
    expect((await on("ask", "order/still", "add", "by=1")).code).toBe(0);
  });

  it("is found again when its process has been away", async () => {
    const store = await socketStore(data);
    const client = await createClient(store, realWorld, 8);
    const ref = client.actor(order, "patient");
    await ref.send({ type: "add", by: 1 });
    await server.close();
    const waiting = ref.ask({ type: "add", by: 1 });
    await expect(store.directory.members()).rejects.toMatchObject({ code: "unreachable" });
    server = await serveStore(node.store, data);
    expect(await waiting).toEqual({ total: 2 });
    client.close();
    await store.close();
  });
});
