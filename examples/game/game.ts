/**
 * Noughts and crosses: each table is an actor, and everybody who looks at it sees the same board.
 *
 * The rules are the machine's: a page sends what was clicked, and whether that was allowed is decided in the turn, in the
 * order in which clicks arrived. So two windows cannot both take one field, however slow their network is.
 */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";

export type Side = "x" | "o";
export type Field = Side | null;

export type GameEvent =
  /** Takes a seat, or keeps it; answers with the side, or null where both are taken. */
  | { type: "sit"; player: string }
  /** Leaves the seat to somebody else. */
  | { type: "stand"; player: string }
  /** Takes a field, 0 to 8; answers whether that was allowed. */
  | { type: "take"; player: string; field: number }
  /** Another game at this table; the losing side begins. */
  | { type: "again" };

export interface Game {
  /** Row by row. */
  readonly board: readonly Field[];
  readonly seats: Readonly<Record<Side, string | null>>;
  readonly next: Side;
  readonly winner: Side | null;
  /** The three fields that have won. */
  readonly line: readonly number[];
  readonly score: Readonly<Record<Side, number>>;
}

const EMPTY: readonly Field[] = Array.from({ length: 9 }, () => null);
const LINES = [
  [0, 1, 2],
  [3, 4, 5],
  [6, 7, 8],
  [0, 3, 6],
  [1, 4, 7],
  [2, 5, 8],
  [0, 4, 8],
  [2, 4, 6],
];
/** Seats at a table where nothing happens are free again. */
const PATIENCE_MS = 30 * 60_000;

const other = (side: Side): Side => (side === "x" ? "o" : "x");

function sideOf({ seats }: Game, player: string): Side | null {
  return seats.x === player ? "x" : seats.o === player ? "o" : null;
}

/** The seat that somebody has, or would get. */
function seatFor(game: Game, player: string): Side | null {
  const free = game.seats.x === null ? "x" : game.seats.o === null ? "o" : null;
  return sideOf(game, player) ?? free;
}

function taken({ board, next, score }: Game, field: number): Partial<Game> {
  const after = board.map((was, at) => (at === field ? next : was));
  const line = LINES.find((fields) => fields.every((at) => after[at] === next)) ?? [];
  const winner = line.length > 0 ? next : null;
  return {
    board: after,
    line,
    winner,
    next: other(next),
    score: winner === null ? score : { ...score, [winner]: score[winner] + 1 },
  };
}

export const game = defineActor({
  type: "game",
  machine: setup({
    types: { context: {} as Game, events: {} as GameEvent },
    guards: {
      isAllowed: ({ context, event }) =>
        event.type === "take" &&
        context.board[event.field] === null &&
        sideOf(context, event.player) === context.next,
      isWon: ({ context }) => context.winner !== null,
      isFull: ({ context }) => context.board.every((field) => field !== null),
    },
    actions: {
      clear: assign({ board: EMPTY, line: [], winner: null }),
      free: assign({ seats: { x: null, o: null }, score: { x: 0, o: 0 } }),
    },
    delays: { patience: PATIENCE_MS },
  }).createMachine({
    id: "game",
    context: {
      board: EMPTY,
      seats: { x: null, o: null },
      next: "x",
      winner: null,
      line: [],
      score: { x: 0, o: 0 },
    },
    initial: "playing",
    on: {
      sit: {
        actions: [
          reply(({ context, event }) => seatFor(context, event.player)),
          assign({
            seats: ({ context, event }) => {
              const side = seatFor(context, event.player);
              return side === null ? context.seats : { ...context.seats, [side]: event.player };
            },
          }),
        ],
      },
      stand: {
        actions: assign({
          seats: ({ context, event }) => {
            const side = sideOf(context, event.player);
            return side === null ? context.seats : { ...context.seats, [side]: null };
          },
        }),
      },
      take: { actions: reply(false) },
      again: { target: ".playing", actions: "clear" },
    },
    states: {
      playing: {
        always: [
          { guard: "isWon", target: "won" },
          { guard: "isFull", target: "drawn" },
        ],
        on: {
          take: [
            {
              guard: "isAllowed",
              target: "playing",
              // Entered anew, so that patience begins anew.
              reenter: true,
              actions: [assign(({ context, event }) => taken(context, event.field)), reply(true)],
            },
            { actions: reply(false) },
          ],
        },
        after: { patience: { target: "playing", reenter: true, actions: ["clear", "free"] } },
      },
      won: { after: { patience: { target: "playing", actions: ["clear", "free"] } } },
      drawn: { after: { patience: { target: "playing", actions: ["clear", "free"] } } },
    },
  }),
  types: {} as { replies: { sit: Side | null; take: boolean } },
});
