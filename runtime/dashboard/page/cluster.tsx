/** The cluster: its nodes, and who serves which shard, as it changes; and the types with how many actors stand where. */
import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import { ask, type Cluster, type ClusterNode, type Count, type TypeRow } from "./api.ts";
import { type Counted, useCount } from "./counting.ts";
import { colourOf, count } from "./format.ts";
import { linkTo, usePolled } from "./hooks.ts";
import { Trouble, Waiting } from "./parts.tsx";

const CLUSTER_MS = 700;
/** How long a node that is gone is still shown. */
const GONE_MS = 60_000;
const STATES_SHOWN = 7;

export function ClusterView(): VNode {
  const { value, error } = usePolled((signal) => ask<Cluster>("/cluster", { signal }), CLUSTER_MS, []);
  const types = usePolled((signal) => ask<{ types: TypeRow[] }>("/types", { signal }), 10_000, []);
  return (
    <>
      <h1>Cluster</h1>
      <Trouble error={error} />
      {value !== undefined ? <Nodes cluster={value} /> : error === undefined && <Waiting what="the nodes" />}
      <h2 id="types">Types</h2>
      <Trouble error={types.error} />
      <div class="types">
        {types.value === undefined && types.error === undefined && <Waiting what="the types" />}
        {types.value?.types.map((row) => (
          <TypeCard key={row.type} row={row} />
        ))}
        {types.value?.types.length === 0 && <p class="dim">No actor types are known to this server.</p>}
      </div>
    </>
  );
}

interface Seen {
  readonly node: ClusterNode;
  readonly colour: number;
  seen_ms: number;
}

/** Nodes by name with a colour each, those of the last minute too. Colours are not given twice while there are others. */
class Roll {
  readonly #seen = new Map<string, Seen>();

  update(nodes: readonly ClusterNode[], now_ms: number): readonly (Seen & { gone: boolean })[] {
    for (const node of nodes) {
      const colour = this.#seen.get(node.name)?.colour ?? this.#free(node.name);
      this.#seen.set(node.name, { node, colour, seen_ms: now_ms });
    }
    for (const [name, { seen_ms }] of this.#seen) if (now_ms - seen_ms > GONE_MS) this.#seen.delete(name);
    return [...this.#seen.values()]
      .map((one) => ({ ...one, gone: one.seen_ms < now_ms }))
      .sort((a, b) => (a.node.name < b.node.name ? -1 : 1));
  }

  #free(name: string): number {
    const used = new Set([...this.#seen.values()].map(({ colour }) => colour));
    const first = colourOf(name);
    for (let n = 0; n < 8; n++) if (!used.has((first + n) % 8)) return (first + n) % 8;
    return first;
  }
}

function Nodes({ cluster }: { cluster: Cluster }): VNode {
  const roll = useRef(new Roll());
  const nodes = useMemo(() => roll.current.update(cluster.nodes, performance.now()), [cluster]);
  const colours = new Map(nodes.map(({ node, colour }) => [node.incarnation, colour]));
  const names = new Map(nodes.map(({ node }) => [node.incarnation, node.name]));
  const unserved = cluster.shards.filter(({ owner }) => owner === undefined || !colours.has(owner)).length;
  return (
    <section class="cluster" aria-label="Nodes and shards">
      <ul class="nodes">
        {nodes.map(({ node, colour, gone }) => (
          <li
            key={node.name}
            class={`node c${colour} ${gone ? "gone" : ""}`}
            data-node={node.name}
            data-gone={gone}
          >
            <span class="dot" aria-hidden="true" />
            <strong>{node.name}</strong>
            <span class="dim">
              {gone
                ? "gone"
                : node.leaving
                  ? "leaving"
                  : `${count(node.shards)} ${node.shards === 1 ? "shard" : "shards"}`}
              {node.weight !== 1 && !gone ? ` · weight ${node.weight}` : ""}
            </span>
          </li>
        ))}
      </ul>
      <div
        class="shards"
        role="img"
        data-size={cluster.shards.length > 1_024 ? "small" : cluster.shards.length > 256 ? "middle" : "large"}
        aria-label={`${cluster.shards.length} shards, ${unserved === 0 ? "all served" : `${unserved} not served`}`}
      >
        {cluster.shards.map(({ shard, owner, epoch }) => {
          const colour = owner === undefined ? undefined : colours.get(owner);
          const by = owner === undefined ? "nobody" : (names.get(owner) ?? owner);
          return (
            <i
              // A new owner makes a new square, which lights up as it comes.
              key={`${shard} ${owner ?? ""}`}
              class={colour === undefined ? "none" : `c${colour}`}
              title={`shard ${shard}: ${by}, epoch ${epoch}`}
              data-shard={shard}
              data-owner={by}
            />
          );
        })}
      </div>
      <p class="dim small">
        {count(cluster.shards.length)} shards,{" "}
        {unserved === 0 ? "all served" : `${count(unserved)} not served just now`}.
      </p>
    </section>
  );
}

function TypeCard({ row }: { row: TypeRow }): VNode {
  const { type, version } = row;
  const counted = useCount(type);
  return (
    <article class="card type" data-type={type} ref={counted.place}>
      <header>
        <h3>
          <a href={linkTo(["types", type])}>{type}</a>
        </h3>
        {version > 1 && <span class="tag">v{version}</span>}
        <Total counted={counted} />
      </header>
      <CountedStates type={type} counted={counted} />
    </article>
  );
}

/** How many there are, and whether that is being counted. */
export function Total({ counted: { value, isCounting, refusal } }: { counted: Counted }): VNode {
  return (
    <>
      {isCounting && (
        <span class="counting" role="status">
          counting…
        </span>
      )}
      <span class="total" data-total={value?.total}>
        {value !== undefined ? count(value.total) : refusal === undefined && !isCounting ? "…" : ""}
      </span>
    </>
  );
}

/** Actors by state, or what is known instead. */
export function CountedStates({ type, counted }: { type: string; counted: Counted }): VNode {
  const { value, isCounting, refusal } = counted;
  if (value !== undefined) return <States type={type} counts={value} />;
  if (refusal !== undefined) return <p class="dim small">{refusal}</p>;
  return (
    <>
      <ul class="bars" aria-hidden="true">
        {[70, 45, 25].map((width) => (
          <li key={width} class="bone" style={{ width: `${width}%` }} />
        ))}
      </ul>
      {isCounting && (
        <p class="dim small">
          All of a type is read once before it is counted. With many actors that takes a while.
        </p>
      )}
    </>
  );
}

/** How many actors stand in each state, as bars that lead to them. */
export function States({ type, counts }: { type: string; counts: Count }): VNode {
  const sorted = Object.entries(counts.states).sort(([, a], [, b]) => b - a);
  const shown = sorted.slice(0, STATES_SHOWN);
  const others = sorted.slice(STATES_SHOWN).reduce((total, [, n]) => total + n, 0);
  const most = shown[0]?.[1] ?? 1;
  return (
    <ul class="bars">
      {shown.map(([state, n]) => (
        <li key={state} data-state={state} data-count={n}>
          <a href={linkTo(["types", type], { state: filterFor(state) })}>
            <span class="bar" style={{ width: `${Math.max(1, (n / most) * 100)}%` }} />
            <span class="state-name">{state === "" ? "(no states)" : state}</span>
            <span class="n">{count(n)}</span>
          </a>
        </li>
      ))}
      {others > 0 && <li class="dim small">{count(others)} in other states</li>}
      {shown.length === 0 && <li class="dim small">No actors yet.</li>}
    </ul>
  );
}

/** Actors in several states at once are found by one of them. */
export function filterFor(state: string): string {
  return state.split(" + ")[0] ?? "";
}
