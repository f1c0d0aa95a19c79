/** An actor that remembers what it was told, in order. */
import { assign, setup } from "xstate";
import { type Client, defineActor } from "../../runtime/index.ts";

export const list = defineActor({
  type: "list",
  machine: setup({
    types: { context: {} as { all: string[] }, events: {} as { type: "add"; text: string } },
  }).createMachine({
    context: { all: [] },
    on: { add: { actions: assign({ all: ({ context, event }) => [...context.all, event.text] }) } },
  }),
});

/** What `list/all` was told. */
export async function listed(client: Client): Promise<readonly string[]> {
  return (await client.actor(list, "all").get()).context.all;
}
