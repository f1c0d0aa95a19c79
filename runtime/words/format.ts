/** The version of everything that nodes of one app share: records, snapshots, frames, the shard table. */
export const FORMAT = 1;

/** Entry beside the snapshots in which who reads the whole journal, and who trims it, says so. */
export const HOLDS_ENTRY = "_keep";
