/** Membership: who is listed, whose heartbeat is followed by whom, and when a lease holds. */
import { describe, expect, it } from "vitest";
import { Membership } from "../runtime/cluster/membership.ts";
import type { Directory, Member } from "../runtime/ports/index.ts";
import { memory } from "../runtime/stores/memory/index.ts";
import { Gate } from "./support/fault-store.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const LEASE_MS = 5_000;
const HEARTBEAT_MS = 1_500;
const TICK_MS = HEARTBEAT_MS / 3;

function named(node: string, more: Partial<Member> = {}): Member {
  return { node, incarnation: `${node}1`, weight: 1, beat: 0, leaving: false, types: [], ...more };
}

/** A member with a hand on what it asks of the directory. */
class Node {
  readonly membership: Membership;
  readonly world: VirtualWorld;
  readonly gate = new Gate();
  /** Calls that the gate holds back while it is closed; all by default. */
  held: (call: string) => boolean = () => true;
  /** What was asked for: name of the call, and how many incarnations or shards it names. */
  readonly calls: { readonly name: string; readonly size: number }[] = [];
  /** A heartbeat was answered with "not listed". */
  over = false;
  #cancel: () => void = () => undefined;

  constructor(directory: Directory, world: VirtualWorld, self: Member) {
    this.world = world;
    const gated = new Proxy(directory, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as (...args: unknown[]) => unknown;
        return async (...args: unknown[]) => {
          if (this.held(String(name))) await this.gate.pass();
          this.calls.push({ name: String(name), size: Array.isArray(args[0]) ? args[0].length : 0 });
          return value.apply(target, args);
        };
      },
    });
    this.membership = new Membership(gated, world, LEASE_MS, self);
  }

  /** Beats, follows and looks like a node, until it is killed. */
  live(): void {
    let ticks = 0;
    const tick = (): void => {
      this.#cancel = this.world.after(TICK_MS, tick);
      if (++ticks % 3 === 0 || this.membership.silence_ms > HEARTBEAT_MS) {
        void this.membership.beat().then((listed) => {
          if (!listed) this.over = true;
        });
      }
      void this.membership.follow();
      if (ticks % 3 === 0) void this.membership.look();
    };
    this.#cancel = this.world.after(this.world.next() * TICK_MS, tick);
  }

  kill(): void {
    this.#cancel();
  }
}

/** Members of one directory, in virtual time. */
class Town {
  readonly world = new VirtualWorld();
  readonly directory = memory().directory;

  async join(...names: string[]): Promise<Node[]> {
    const nodes = names.map((name) => new Node(this.directory, this.world, named(name)));
    for (const { membership } of nodes) expect(await this.world.run(membership.join())).toBe(true);
    for (const { membership } of nodes) await this.world.run(membership.look());
    return nodes;
  }

  async listed(): Promise<string[]> {
    return (await this.directory.members()).map(({ node }) => node);
  }
}

describe("the lease", () => {
  it("membership 2: counts from before the heartbeat was sent, less a margin", async () => {
    const { world, ...town } = new Town();
    const node = new Node(town.directory, world, named("a"));
    const { membership, gate } = node;
    await world.run(membership.join());
    await world.advance(4_000);
    gate.close();
    const beat = membership.beat();
    await world.advance(499);
    expect(membership.holds()).toBe(true);
    await world.advance(1);
    expect(membership.holds()).toBe(false);
    await world.advance(1_000);
    gate.open();
    expect(await world.run(beat)).toBe(true);
    expect(membership.holds()).toBe(true);
    await world.advance(2_999);
    expect(membership.holds()).toBe(true);
    await world.advance(1);
    expect(membership.holds()).toBe(false);
  });

  it("is not held before joining, nor after the end, whatever is answered later", async () => {
    const { world, directory } = new Town();
    const { membership } = new Node(directory, world, named("a"));
    expect(membership.holds()).toBe(false);
    await world.run(membership.join());
    expect(membership.holds()).toBe(true);
    const late = membership.beat();
    membership.end();
    expect(await world.run(late)).toBe(true);
    expect(membership.holds()).toBe(false);
  });

  it("does not hold when the machine was asleep and its monotonic clock with it", async () => {
    const { world, directory } = new Town();
    const { membership } = new Node(directory, world, named("a"));
    await world.run(membership.join());
    world.wall_ms += LEASE_MS * 0.9 - 1;
    expect(membership.holds()).toBe(true);
    world.wall_ms += 1;
    expect(membership.holds()).toBe(false);
    await world.run(membership.beat());
    expect(membership.holds()).toBe(true);
    // A clock that was set back takes nothing away.
    world.wall_ms -= 3_600_000;
    expect(membership.holds()).toBe(true);
    await world.advance(LEASE_MS);
    expect(membership.holds()).toBe(false);
  });

  it("is over as soon as the node learns that it is off the list", async () => {
    const town = new Town();
    const [{ membership }] = (await town.join("a")) as [Node];
    await town.directory.leave("a1");
    expect(await town.world.run(membership.beat())).toBe(false);
    expect(membership.holds()).toBe(false);
    expect(await town.world.run(membership.join())).toBe(false);
  });
});

describe("who is dead", () => {
  it("membership 1: is taken off the list one lease after the last change of its heartbeat was seen, not before", async () => {
    const town = new Town();
    const { world } = town;
    const [a, b] = (await town.join("a", "b")) as [Node, Node];
    const expelled = async (): Promise<boolean> => {
      await world.run(a.membership.beat());
      return world.run(a.membership.follow());
    };
    expect(await expelled()).toBe(false);
    await world.advance(2_000);
    expect(await expelled()).toBe(false);
    await world.advance(2_000);
    await world.run(b.membership.beat());
    for (let waited = 0; waited < 4_000; waited += 1_000) {
      expect(await expelled()).toBe(false);
      await world.advance(1_000);
    }
    await world.advance(999);
    expect(await expelled()).toBe(false);
    expect(b.membership.holds()).toBe(false);
    await world.advance(1);
    expect(await expelled()).toBe(true);
    expect(await town.listed()).toEqual(["a"]);
    expect(await world.run(b.membership.beat())).toBe(false);
  });

  it("membership 3: whose heartbeat comes before it is taken off the list stays, and its lease holds", async () => {
    const town = new Town();
    const { world } = town;
    const [a, b] = (await town.join("a", "b")) as [Node, Node];
    for (let waited = 0; waited < LEASE_MS; waited += 1_000) {
      await world.run(a.membership.beat());
      await world.run(a.membership.follow());
      await world.advance(1_000);
    }
    // Everything is read; what is left is to say so.
    a.held = (call) => call === "leave";
    a.gate.close();
    const follow = a.membership.follow();
    await world.settle();
    expect(a.gate.waiting).toBe(1);
    expect(b.membership.holds()).toBe(false);
    expect(await world.run(b.membership.beat())).toBe(true);
    expect(b.membership.holds()).toBe(true);
    a.gate.open();
    expect(await world.run(follow)).toBe(false);
    expect(await town.listed()).toEqual(["a", "b"]);
    expect(await world.run(b.membership.beat())).toBe(true);
  });

  it("is found so by a read that is not behind: a follower that sees old heartbeats for long expels nobody", async () => {
    const town = new Town();
    const { world } = town;
    const [a, b] = (await town.join("a", "b")) as [Node, Node];
    const { beats } = town.directory;
    const old = await beats.call(town.directory, ["b1"], true);
    town.directory.beats = async (names, fresh) => (fresh ? beats.call(town.directory, names, true) : old);
    a.live();
    b.live();
    await world.advance(30_000);
    expect(await town.listed()).toEqual(["a", "b"]);
    b.kill();
    await world.advance(2 * LEASE_MS);
    expect(await town.listed()).toEqual(["a"]);
    a.kill();
  });

  it("membership 4: is not who is merely missing on a list that is behind", async () => {
    const town = new Town();
    const { world } = town;
    const [a] = (await town.join("a")) as [Node];
    const [b] = (await town.join("b")) as [Node];
    const over = async (...names: string[]): Promise<string[]> => [
      ...(await world.run(a.membership.overOf(names))),
    ];
    expect(a.membership.isListed("b1")).toBe(false);
    expect(await over("b1")).toEqual([]);
    await town.directory.leave("b1");
    expect(await over("b1", "a1")).toEqual(["b1"]);
    // It stays so, and needs no second look.
    const reads = a.calls.length;
    expect(await over("b1")).toEqual(["b1"]);
    expect(a.calls.length).toBe(reads);
    expect(await world.run(b.membership.beat())).toBe(false);
  });

  it("membership 5: is nobody after the store was away for longer than a lease", async () => {
    const town = new Town();
    const names = Array.from({ length: 12 }, (_, n) => `n${n}`);
    const nodes = await town.join(...names);
    for (const node of nodes) node.live();
    await town.world.advance(6_000);
    for (const { gate } of nodes) gate.close();
    await town.world.advance(3 * LEASE_MS);
    expect(nodes.some(({ membership }) => membership.holds())).toBe(false);
    for (const { gate } of nodes) gate.open();
    await town.world.advance(3 * LEASE_MS);
    expect(await town.listed()).toEqual(names);
    expect(nodes.every(({ membership, over }) => membership.holds() && !over)).toBe(true);
    for (const node of nodes) node.kill();
  });

  it("stays nowhere on the list when whoever took it off was interrupted", async () => {
    const town = new Town();
    const [a, b] = (await town.join("a", "b")) as [Node, Node];
    const left: string[] = [];
    const { leave } = town.directory;
    town.directory.leave = async (incarnation, beat) => {
      left.push(`${incarnation} ${beat}`);
      return leave.call(town.directory, incarnation, beat);
    };
    const { beats } = town.directory;
    town.directory.beats = async (names, fresh) =>
      (await beats.call(town.directory, names, fresh)).map(() => undefined);
    a.live();
    await town.world.advance(2 * LEASE_MS);
    expect(left).toContain("b1 undefined");
    expect(await town.listed()).toEqual(["a"]);
    a.kill();
    b.kill();
  });

  it("one that is cut off from the store alone is expelled, and expels nobody when it is back", async () => {
    const town = new Town();
    const names = Array.from({ length: 8 }, (_, n) => `n${n}`);
    const nodes = await town.join(...names);
    for (const node of nodes) node.live();
    await town.world.advance(4_000);
    const [cut] = nodes as [Node];
    cut.gate.close();
    await town.world.advance(2 * LEASE_MS);
    expect(cut.membership.holds()).toBe(false);
    expect(await town.listed()).toEqual(names.slice(1));
    cut.gate.open();
    await town.world.advance(2 * LEASE_MS);
    expect(cut.over).toBe(true);
    expect(await town.listed()).toEqual(names.slice(1));
    for (const node of nodes) node.kill();
  });
});

describe("followers", () => {
  it("each node reads the heartbeats of five others, however many there are, and each is read by five", async () => {
    const town = new Town();
    const nodes = await town.join(...Array.from({ length: 60 }, (_, n) => `rack-1-node-${n}`));
    const read = new Map<string, number>();
    const { beats } = town.directory;
    town.directory.beats = async (names, fresh) => {
      for (const name of names) read.set(name, (read.get(name) ?? 0) + 1);
      return beats.call(town.directory, names, fresh);
    };
    for (const { membership, calls } of nodes) {
      calls.length = 0;
      await town.world.run(membership.follow());
      expect(calls).toEqual([{ name: "beats", size: 5 }]);
    }
    expect(read.size).toBe(60);
    expect([...read.values()].every((times) => times === 5)).toBe(true);
  });

  it("of all but a few lost at once: the rest find them all, in less than two leases", async () => {
    const town = new Town();
    const { world } = town;
    const nodes = await town.join(...Array.from({ length: 40 }, (_, n) => `n${n}`));
    for (const node of nodes) node.live();
    await world.advance(10_000);
    const left = nodes.filter((_, n) => n % 10 === 0);
    for (const node of nodes) if (!left.includes(node)) node.kill();
    await world.advance(LEASE_MS - HEARTBEAT_MS - 1);
    expect((await town.listed()).length).toBe(40);
    await world.advance(LEASE_MS + HEARTBEAT_MS);
    expect(await town.listed()).toEqual(left.map(({ membership }) => membership.self.node));
    expect(left.some(({ over }) => over)).toBe(false);
    for (const node of left) node.kill();
  });
});

describe("candidates", () => {
  it("are the listed that do not leave, oneself by one's own word", async () => {
    const { world, directory } = new Town();
    const { membership } = new Node(directory, world, named("a"));
    await directory.join(named("b"));
    await directory.join(named("c", { leaving: true, beat: 1 }));
    const names = (): string[] => membership.candidates().map(({ node }) => node);
    await world.run(membership.look());
    expect(names()).toEqual(["b", "a"]);
    await world.run(membership.join());
    await world.run(membership.look());
    expect(names()).toEqual(["b", "a"]);
    const { version } = membership;
    await world.run(membership.look());
    expect(membership.version).toBe(version);
    await directory.join(named("b", { leaving: true, beat: 1 }));
    await world.run(membership.look());
    expect(membership.version).toBeGreaterThan(version);
    expect(names()).toEqual(["a"]);
    await world.run(membership.leave());
    expect(names()).toEqual([]);
    expect((await directory.members()).find(({ node }) => node === "a")?.leaving).toBe(true);
  });
});
