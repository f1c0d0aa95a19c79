/** What the users of examples/nats/accounts must not be able to do, and the streams of the app. */
import type { User } from "./nats-variants.ts";

/** Streams with their subjects. */
export const streams = {
  keyturn_journal: "keyturn.journal.*",
  keyturn_dead: "keyturn.dead.*",
  KV_keyturn_snapshots: "$KV.keyturn_snapshots.>",
  KV_keyturn_shards: "$KV.keyturn_shards.>",
  KV_keyturn_nodes: "$KV.keyturn_nodes.>",
};
const others = [
  ">",
  "*.>",
  "keyturn.>",
  "keyturn.client.>",
  "keyturn.client.*.*",
  "_INBOX.>",
  "_INBOX.*.*",
  "_INBOX.somebody.>",
  "keyturn.journal.*",
  "keyturn.dead.*",
  "$KV.>",
  "$KV.keyturn_snapshots.>",
  "$JS.>",
  "$JS.API.>",
  "$JS.ACK.>",
  "$SYS.>",
];
const fromOutside = [
  ...others,
  "keyturn.client.keyturn_client2.a",
  "keyturn.client.keyturn_node.a",
  "_INBOX_keyturn_node.>",
  "_INBOX_keyturn_provisioner.>",
  "keyturn.shard.>",
  "keyturn.shard.3",
  "keyturn.peer.*",
  "keyturn.node.*",
  "keyturn.actor.>",
  "keyturn.info",
  "keyturn.changed",
  "keyturn.event.>",
];
const ofOperators = Object.keys(streams).flatMap((stream) => [
  `$JS.API.STREAM.DELETE.${stream}`,
  `$JS.API.STREAM.PURGE.${stream}`,
  `$JS.API.STREAM.MSG.DELETE.${stream}`,
  `$JS.API.STREAM.SNAPSHOT.${stream}`,
  `$JS.API.STREAM.RESTORE.${stream}`,
  `$JS.API.STREAM.LEADER.STEPDOWN.${stream}`,
  `$JS.API.STREAM.PEER.REMOVE.${stream}`,
]);
const ofProvisioners = Object.keys(streams).flatMap((stream) => [
  `$JS.API.STREAM.CREATE.${stream}`,
  `$JS.API.STREAM.UPDATE.${stream}`,
]);
const ofNodes = [
  "keyturn.peer.3",
  "keyturn.changed",
  "keyturn.event.counter.home",
  "keyturn.journal.lane",
  "keyturn.dead.0_1_0",
  "$KV.keyturn_shards.3",
  "$KV.keyturn_snapshots.counter.home",
  "$KV.keyturn_nodes.member.a",
  "keyturn.client.keyturn_browser.a",
  "keyturn.client.a",
  "_INBOX.somebody.a",
  "$JS.API.STREAM.MSG.GET.keyturn_journal",
  "$JS.API.DIRECT.GET.keyturn_journal",
  "$JS.API.DIRECT.GET.KV_keyturn_snapshots.$KV.keyturn_snapshots.counter.home",
];
const ofNobody = [
  "$JS.API.CONSUMER.CREATE.KV_keyturn_shards.a",
  "$JS.API.CONSUMER.CREATE.KV_keyturn_nodes.a",
  "$JS.API.CONSUMER.DELETE.KV_keyturn_nodes.a",
  "$JS.ACK.keyturn_journal.a.1.1.1.1.1",
  "$JS.API.STREAM.LIST",
  "$JS.API.STREAM.NAMES",
  "$JS.API.STREAM.CREATE.other",
  "$JS.API.CONSUMER.CREATE.keyturn_journal.a",
  "$JS.API.CONSUMER.DURABLE.CREATE.keyturn_journal.a",
  "$JS.API.META.LEADER.STEPDOWN",
  "$JS.API.ACCOUNT.PURGE.KEYTURN",
  "$SYS.REQ.SERVER.PING",
  "$SYS.REQ.ACCOUNT.KEYTURN.CONNZ",
  "keyturn.other",
  "other",
];
/** What each user must be refused. */
export const forbidden: Record<User, { publish: string[]; subscribe: string[] }> = {
  keyturn_client: {
    publish: [
      ...[...ofOperators, ...ofProvisioners, ...ofNodes, ...ofNobody, "$JS.API.INFO"],
      "keyturn.actor.counter.a.b",
    ],
    subscribe: [...fromOutside, "_INBOX.keyturn_browser.>", "keyturn.client.keyturn_browser.*"],
  },
  keyturn_browser: {
    publish: [
      ...[...ofOperators, ...ofProvisioners, ...ofNodes, ...ofNobody, "$JS.API.INFO"],
      ...["keyturn.shard.3", "keyturn.node.a", "keyturn.info"],
      ...["keyturn.shard.3.account.alice", "keyturn.actor.counter.a.b"],
    ],
    subscribe: [...fromOutside, "_INBOX.keyturn_client.>", "keyturn.client.keyturn_client.*"],
  },
  keyturn_node: {
    publish: [...ofOperators, ...ofProvisioners, ...ofNobody],
    subscribe: [
      ...others.filter((subject) => !subject.startsWith("keyturn.client.")),
      "_INBOX_keyturn_provisioner.>",
      "_INBOX.keyturn_client.>",
    ],
  },
  keyturn_provisioner: {
    publish: [...ofOperators, ...ofNodes, ...ofNobody, "keyturn.shard.3", "keyturn.shard.3.counter.home"],
    subscribe: [...fromOutside, "_INBOX.keyturn_client.>"].filter(
      (subject) => subject !== "_INBOX_keyturn_provisioner.>",
    ),
  },
};
