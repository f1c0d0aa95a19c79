/**
 * A mail filter that learns: each word is an actor that knows how often it stood in spam and in other mail, and one
 * actor files the mails and keeps count of how often it was right.
 *
 * A word answers with what it knew *before* the mail that it is asked about, and learns it in the same turn. So each
 * mail is judged by those before it and by nothing else, and only then learnt from.
 */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";
import { addVerdict, type Evidence, type Filed, nothingFiled, verdictOf } from "./bayes.ts";

/** In how many mails a word stood. */
export interface WordCounts {
  readonly spam: number;
  readonly ham: number;
}

export const word = defineActor({
  type: "word",
  machine: setup({
    types: { context: {} as WordCounts, events: {} as { type: "seen"; spam: boolean } },
  }).createMachine({
    id: "word",
    context: { spam: 0, ham: 0 },
    on: {
      seen: {
        actions: [
          reply(({ context }) => context),
          assign(({ context: { spam, ham }, event }) => (event.spam ? { spam: spam + 1 } : { ham: ham + 1 })),
        ],
      },
    },
  }),
  types: {} as { replies: { seen: WordCounts } },
});

export interface FileEvent {
  type: "file";
  /** Place in the order of arrival, from 0. */
  number: number;
  subject: string;
  /** What it is. The filter looks at it only after it has judged. */
  spam: boolean;
  /** What its words knew before it. */
  evidence: Evidence;
}

export type FileReply = "filed" | "alreadyFiled" | "outOfOrder";

export const filter = defineActor({
  type: "filter",
  machine: setup({
    types: { context: {} as Filed, events: {} as FileEvent },
    guards: {
      isNext: ({ context, event }) => event.number === context.mails,
      isRepeated: ({ context, event }) => event.number < context.mails,
    },
    actions: {
      file: assign(({ context, event }) => addVerdict(context, event, verdictOf(context, event.evidence))),
    },
  }).createMachine({
    id: "filter",
    context: nothingFiled,
    on: {
      file: [
        { guard: "isNext", actions: ["file", reply("filed" satisfies FileReply)] },
        { guard: "isRepeated", actions: reply("alreadyFiled" satisfies FileReply) },
        { actions: reply("outOfOrder" satisfies FileReply) },
      ],
    },
  }),
  types: {} as { replies: { file: FileReply } },
});
