/**
 * The machine of a view's actors.
 *
 * Owns its events. It builds a machine for users, by XState's public interface; what an event does to the state is in
 * state.ts.
 */
import { assign, emit, enqueueActions, raise, setup } from "xstate";
import { KeyturnError } from "../../words/errors.ts";
import type { AnyEmitted } from "../routes.ts";
import type { Values } from "./aggregates.ts";
import { type Added, Change, emptyContext, type Shape, type ViewContext, type WindowState } from "./state.ts";

export const ADD = "view.add";
/** An event that a function of the view failed on; always refused, so that it becomes a dead letter. */
export const FAULT = "view.fault";
/** The key to which those are told. Nothing is kept under it. */
export const FAULTS_KEY = "~faults";
const CLOSE = "view.close";
const IDLE = "view.idle";

export type ViewEvent =
  | ({ type: typeof ADD } & Added)
  | { type: typeof FAULT; why: string; from: string; event?: AnyEmitted | undefined }
  | { type: typeof CLOSE }
  | { type: typeof IDLE };

/** What a view's actors emit: a window when it is closed, once, and events that came too late to be counted. */
export type ViewEmitted =
  | {
      readonly type: "window.closed";
      readonly view: string;
      readonly key: string;
      readonly start: number;
      readonly end: number;
      readonly events: number;
      readonly values: Readonly<Record<string, unknown>>;
    }
  | {
      readonly type: "window.late";
      readonly view: string;
      readonly key: string;
      readonly time: number;
      /** What each aggregate would have taken of it. */
      readonly taken: Readonly<Record<string, unknown>>;
    };

export interface ViewKind extends Shape {
  readonly name: string;
  /** Whether it may say what closed: not if a key is split, since no part has all of it. */
  readonly tells: boolean;
}

const machineSetup = setup({
  types: {
    context: {} as ViewContext & { readonly key: string },
    events: {} as ViewEvent,
    emitted: {} as ViewEmitted,
    input: {} as { readonly key: string },
  },
});

export function viewMachine(kind: ViewKind) {
  const { name, window } = kind;
  const idle_ms = window?.idle_ms;
  return machineSetup.createMachine({
    context: ({ input }) => ({ ...emptyContext, key: input.key }),
    on: {
      [ADD]:
        window === undefined
          ? { actions: assign(({ context, event }) => grown(kind, context, event as Added)) }
          : {
              actions: enqueueActions(({ context, event, enqueue }) => {
                const change = new Change(kind, context);
                change.add(event as Added);
                if (idle_ms !== undefined && context.m.idle === null) {
                  change.idle(context.m.seen + 1);
                  enqueue(raise({ type: IDLE }, { id: IDLE, delay: idle_ms }));
                }
                settle(kind, context, change, enqueue as never);
                if (change.late && kind.tells) {
                  const { time, taken } = event as Added;
                  enqueue(emit({ type: "window.late", view: name, key: context.key, time, taken }));
                }
              }),
            },
      [CLOSE]: {
        actions: enqueueActions(({ context, enqueue }) => {
          const change = new Change(kind, context);
          change.close();
          settle(kind, context, change, enqueue as never);
        }),
      },
      [IDLE]: {
        actions: enqueueActions(({ context, enqueue }) => {
          const change = new Change(kind, context);
          if (context.m.seen === context.m.idle) {
            change.idle(null);
            change.shut();
          } else {
            change.idle(context.m.seen);
            enqueue(raise({ type: IDLE }, { id: IDLE, delay: idle_ms as number }));
          }
          settle(kind, context, change, enqueue as never);
        }),
      },
      [FAULT]: {
        actions: enqueueActions(({ event }) => {
          const { why, from } = event as Extract<ViewEvent, { type: typeof FAULT }>;
          throw new KeyturnError(
            "route_failed",
            `The view "${name}" cannot count what ${from} emitted: ${why}`,
          );
        }),
      },
    },
  });
}

function grown(kind: ViewKind, context: ViewContext, event: Added): Record<string, unknown> {
  const change = new Change(kind, context);
  change.add(event);
  return change.update;
}

type Enqueue = ((action: unknown) => void) & { assign(update: object): void };

function settle(
  kind: ViewKind,
  context: ViewContext & { key: string },
  change: Change,
  enqueue: Enqueue,
): void {
  enqueue.assign(change.update);
  if (kind.tells)
    for (const window of change.closed) enqueue(emit(closedEvent(kind, context.key, window) as never));
  // The rest in turns of their own.
  if (change.more) enqueue(raise({ type: CLOSE } as never, { id: CLOSE, delay: 0 } as never));
}

function closedEvent(kind: ViewKind, key: string, { start, end, events, states }: WindowState): ViewEmitted {
  return { type: "window.closed", view: kind.name, key, start, end, events, values: valuesOf(kind, states) };
}

/** The results of a window's states. */
export function valuesOf<S extends Shape>(
  { aggregates }: S,
  states: Readonly<Record<string, unknown>>,
): Values<S["aggregates"]> {
  return Object.fromEntries(
    Object.entries(aggregates).map(([name, aggregate]) => [
      name,
      aggregate.result(states[name] ?? aggregate.empty),
    ]),
  ) as Values<S["aggregates"]>;
}
