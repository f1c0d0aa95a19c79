import { defineActor, embedded, reply, startNode } from "keyturn";
import { assign, setup } from "xstate";
import type { OpenStore } from "../run.ts";

const greeter = defineActor({
  type: "greeter",
  machine: setup({
    types: { context: {} as { greeted: number }, events: {} as { type: "greet"; name: string } },
  }).createMachine({
    context: { greeted: 0 },
    on: {
      greet: {
        actions: [
          assign({ greeted: ({ context }) => context.greeted + 1 }),
          reply(({ context, event }) => `Hello ${event.name}, you are number ${context.greeted}.`),
        ],
      },
    },
  }),
  types: {} as { replies: { greet: string } },
});

export async function main(open: OpenStore = () => embedded({ path: "data/hello" })): Promise<string> {
  const node = await startNode({ actors: [greeter], store: await open() });
  const answer = await node.client.actor(greeter, "front-door").ask({ type: "greet", name: "Ada" });
  console.log(answer); // Run it again: the number goes on.
  await node.stop();
  return answer;
}
