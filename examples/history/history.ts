/**
 * The past of one actor: every turn with its event, its time and the state that it made, without anything having been
 * written for it. Here: who emptied a page, and what was on it before.
 */
import { defineActor, memory, startNode } from "keyturn";
import { assign, setup } from "xstate";
import type { OpenStore } from "../run.ts";

export type PageEvent = { type: "edit"; by: string; text: string } | { type: "lock" } | { type: "unlock" };

export const page = defineActor({
  type: "page",
  machine: setup({
    types: { context: {} as { text: string; by: string }, events: {} as PageEvent },
  }).createMachine({
    id: "page",
    context: { text: "", by: "" },
    initial: "open",
    states: {
      open: {
        on: {
          edit: { actions: assign(({ event: { by, text } }) => ({ by, text })) },
          lock: "locked",
        },
      },
      locked: { on: { unlock: "open" } },
    },
  }),
});

/** A page is edited, spoiled, and brought back. Returns its text at every turn, and at the end. */
export async function main(open: OpenStore = memory): Promise<{ texts: string[]; restored: string }> {
  const node = await startNode({ actors: [page], store: await open() });
  const harbour = node.client.actor(page, `harbour:${new Date().toISOString()}`);
  await harbour.send({ type: "edit", by: "Ada", text: "The harbour opens at 8." });
  await harbour.send({ type: "edit", by: "Ben", text: "The harbour opens at 8 and closes at 20." });
  await harbour.send({ type: "edit", by: "Mallory", text: "" });
  await harbour.send({ type: "lock" });

  const texts: string[] = [];
  for await (const { turn, time, event, value, context } of harbour.history({ order: "oldest" })) {
    console.log(
      `${turn} ${new Date(time).toISOString()} ${event.type}: ${value}, "${context.text}" by ${context.by}`,
    );
    texts.push(context.text);
  }

  // Back in time, newest first, to the last state that was not Mallory's.
  for await (const { turn, context } of harbour.history()) {
    if (context.by === "Mallory") continue;
    console.log(`Back to turn ${turn}.`);
    await harbour.send({ type: "unlock" });
    await harbour.send({ type: "edit", by: "Cleo", text: context.text });
    break;
  }
  const { context } = await harbour.get();
  console.log(`"${context.text}"`);
  await node.stop();
  return { texts, restored: context.text };
}
