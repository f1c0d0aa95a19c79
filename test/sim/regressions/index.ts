/**
 * Seeds that once found a bug in the runtime, each with what it found. They pass now.
 *
 * A change of the simulator changes what a seed does, so a seed here is no proof that its bug is gone; the tests named
 * beside some are. Together they keep the ground covered on which bugs were found.
 */
export interface Regression {
  readonly seed: number;
  readonly workloads?: readonly string[];
  readonly found: string;
}

export const regressions: readonly Regression[] = [
  {
    seed: 57,
    workloads: ["finding", "ranging", "storing"],
    found:
      "a pinned snapshot showed a write behind it, where the journal was trimmed up to another write behind it",
  },
  { seed: 36, workloads: ["counter"], found: "a release without an answer left a shard with two writers" },
  {
    seed: 128,
    workloads: ["counter"],
    found: "a shard given away, of which the shard table had not heard, was served by nobody",
  },
  {
    seed: 228,
    workloads: ["counter"],
    found: "a journal that could not be read made an applied turn look refused",
  },
  {
    seed: 287,
    workloads: ["counter"],
    found: "no room for a repeated append was taken for no room for the first",
  },
  {
    seed: 809,
    workloads: ["counter"],
    found: "a node that had lost a shard while idle never noticed, and read it from memory",
  },
  {
    seed: 1145,
    workloads: ["counter"],
    found: "a request that one owner had refused was applied by the next",
  },
  { seed: 135, workloads: ["bank"], found: "an idle node did not send acknowledgements again" },
  { seed: 15, workloads: ["poison"], found: "a crash between commit and storing lost a dead letter" },
  {
    seed: 203,
    workloads: ["poison"],
    found: "a node that had lost a shard took the new owner's snapshots for damage",
  },
  {
    seed: 1234,
    workloads: ["register", "counter"],
    found: "a late claim met the next one and dropped a segment",
  },
  { seed: 759, found: "a deleted actor came back out of a snapshot whose write had not been answered" },
  { seed: 6212, found: "a resumed node's first snapshot of an actor that its new owner had deleted" },
  {
    seed: 100_821,
    found: "an incarnation that was fenced while it joined again went on with its heartbeats",
  },
  {
    seed: 208_723,
    found: "an actor was deleted while a checkpoint wrote what recovery had found of it, and came back",
  },
  {
    seed: 398,
    workloads: ["poison", "timers", "retries"],
    found: "a deletion of nothing was done again by the next owner, who found no record of it",
  },
  {
    seed: 31_773,
    found: "a shard that was offered while the table was read was acquired twice, and then served by nobody",
  },
  {
    seed: 50,
    workloads: ["working"],
    found: "a result of work came while its shard was handed over, and its turn was taken twice",
  },
  { seed: 30, workloads: ["asking"], found: "an answer to an actor that was deleted went to its next life" },
  {
    seed: 2,
    workloads: ["working"],
    found: "a promise hung: its retry was taken for running, or came due beside a turn in flight",
  },
  {
    seed: 26,
    found: "work that ran while the wall clock jumped was in no heap, and no later owner found it",
  },
  {
    seed: 153,
    workloads: ["family", "asking", "working", "retries"],
    found: "children that were put together from a snapshot and an older tail stood in another order",
  },
  {
    seed: 43,
    workloads: ["watching"],
    found: "a watch shared the answer to an older question and was told a state before the one it had read",
  },
  {
    seed: 152,
    workloads: ["remembering"],
    found: "a history read oldest first left out, in silence, what was trimmed between two pages",
  },
];
