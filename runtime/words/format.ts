/** The version of everything that nodes of one app share: records, snapshots, frames, the shard table. */
export const FORMAT = 1;
