/**
 * A chat room that is watched.
 *
 * A watch shows the state now and after commits. A slow reader may miss states in between and never the last one, so
 * the room keeps its newest posts with their numbers, and a reader prints those that it has not seen.
 */
import { type Client, defineActor, memory, reply, startNode } from "keyturn";
import { assign, setup } from "xstate";
import type { OpenStore } from "../run.ts";

export interface Post {
  readonly number: number;
  readonly from: string;
  readonly text: string;
}

export type RoomEvent =
  | { type: "join"; name: string }
  | { type: "leave"; name: string }
  /** Answers with the post's number, or with 0 to somebody who has not joined. */
  | { type: "post"; from: string; text: string };

interface Room {
  readonly members: readonly string[];
  readonly posts: readonly Post[];
}

/** Everything an actor keeps is bounded; so are these. */
const POSTS_KEPT = 100;

export const room = defineActor({
  type: "room",
  machine: setup({
    types: { context: {} as Room, events: {} as RoomEvent },
    guards: {
      isMember: ({ context, event }) => event.type === "post" && context.members.includes(event.from),
    },
  }).createMachine({
    id: "room",
    context: { members: [], posts: [] },
    on: {
      join: {
        actions: assign({
          members: ({ context, event }) => [...new Set([...context.members, event.name])],
        }),
      },
      leave: {
        actions: assign({
          members: ({ context, event }) => context.members.filter((name) => name !== event.name),
        }),
      },
      post: [
        {
          guard: "isMember",
          actions: [
            assign({
              posts: ({ context: { posts }, event: { from, text } }) => [
                ...posts.slice(1 - POSTS_KEPT),
                { number: (posts.at(-1)?.number ?? 0) + 1, from, text },
              ],
            }),
            reply(({ context }) => context.posts.at(-1)?.number),
          ],
        },
        { actions: reply(0) },
      ],
    },
  }),
  types: {} as { replies: { post: number } },
});

/** Calls back for every new post until it says so. */
export async function follow(
  client: Client,
  name: string,
  onPost: (post: Post) => "go on" | "enough",
): Promise<void> {
  let seen = 0;
  for await (const { context } of client.actor(room, name).watch()) {
    for (const post of context.posts) {
      if (post.number <= seen) continue;
      seen = post.number;
      if (onPost(post) === "enough") return;
    }
  }
}

/** Three people talk, a fourth only reads. Returns what the reader saw. */
export async function main(open: OpenStore = memory): Promise<string[]> {
  const node = await startNode({ actors: [room], store: await open() });
  // A room of today: on a store that lasts, yesterday's posts are still in the others.
  const kitchen = node.client.actor(room, `kitchen:${new Date().toISOString()}`);
  const lines: string[] = [];
  const reading = follow(node.client, kitchen.key, ({ number, from, text }) => {
    const line = `${number} ${from}: ${text}`;
    console.log(line);
    lines.push(line);
    return text === "Bye." ? "enough" : "go on";
  });

  for (const name of ["Ada", "Ben", "Cleo"]) await kitchen.send({ type: "join", name });
  await kitchen.ask({ type: "post", from: "Ada", text: "Is there any tea left?" });
  await kitchen.ask({ type: "post", from: "Ben", text: "In the blue tin." });
  const number = await kitchen.ask({ type: "post", from: "Dan", text: "Which tin?" });
  if (number === 0) console.log("Dan has not joined.");
  await kitchen.ask({ type: "post", from: "Cleo", text: "Bye." });

  await reading;
  await node.stop();
  return lines;
}
