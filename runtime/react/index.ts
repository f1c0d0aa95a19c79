"use client";

/**
 * `keyturn/react`: actors in components. With React 18 and 19, and with Preact through `preact/compat`.
 *
 *     const client = createClient({ url: "https://actors.example" });
 *     <KeyturnProvider client={client}>…</KeyturnProvider>
 *
 *     const orders = actorType<typeof order>("order");
 *     function Order({ id }: { id: string }) {
 *       const { state, matches, send } = useActor(orders, id);
 *       if (state === undefined) return <p>…</p>;
 *       return <button disabled={!matches("open")} onClick={() => send({ type: "pay" })}>{state.context.total}</button>;
 *     }
 *
 * Owns nothing: what is known of an actor is the client's, and all components of a page share it. What is shown is
 * committed, never a guess; components are drawn again when it changes. It needs React, as a peer.
 */
import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useCallback,
  useContext,
  useMemo,
  useState,
  useSyncExternalStore,
} from "react";
import type { BrowserClient } from "../browser/client.ts";
import { matchesState, type StateTest } from "../browser/matches.ts";
import type { BrowserRef, TurnOptions } from "../browser/ref.ts";
import type { ActorType, MachineOf, RepliesOf } from "../browser/types.ts";
import { UNKNOWN, type Watched, type WatchStatus } from "../browser/watches.ts";
import type { ActorDefinition, ActorState, AnswerTo, AnyActorDefinition } from "../engine/definition.ts";
import type { ContextOf, EventOf, Machine, ValueOf } from "../engine/machine.ts";
import { KeyturnError } from "../words/errors.ts";

const Context = createContext<BrowserClient | undefined>(undefined);

/** Gives the components within a client. Make that outside of components, once for the page. */
export function KeyturnProvider(props: {
  readonly client: BrowserClient;
  readonly children?: ReactNode;
}): ReactElement {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** The client of the nearest provider. @throws KeyturnError `invalid_options` without one */
export function useClient(): BrowserClient {
  return clientOr(useContext(Context));
}

export interface UseActorOptions<M extends Machine = Machine> {
  /** Instead of the provider's. */
  readonly client?: BrowserClient | undefined;
  /** A state to show until the actor's own has come: one that was read while the page was rendered on a server. */
  readonly initialState?: ActorState<M> | undefined;
}

/** What there is to do with an actor, and how its watch stands. */
export interface ActorControls<M extends Machine, R extends object> {
  /** The reference itself, for history, timers and the rest; undefined while there is no key. */
  readonly ref: BrowserRef<M, R> | undefined;
  /** As in `Watched`; `idle` while there is no key. */
  readonly status: WatchStatus | "idle";
  /** Why the watch has failed; a call that is refused rejects its own promise. */
  readonly error: KeyturnError | undefined;
  /** Sends an event; resolves once its turn is committed. The same function as long as the actor is. @throws KeyturnError */
  readonly send: (event: EventOf<M>, options?: TurnOptions) => Promise<void>;
  /** Sends an event; resolves with the reply, or else the new state. @throws KeyturnError */
  readonly ask: <const E extends EventOf<M>>(event: E, options?: TurnOptions) => Promise<AnswerTo<M, R, E>>;
  /** Whether it stands in a state, or within it; false while none is known. */
  readonly matches: (test: StateTest<M>) => boolean;
}

/** An actor as a component sees it: without a state until the first one has come. */
export type ActorView<M extends Machine = Machine, R extends object = object> = ActorControls<M, R> &
  (
    | { readonly state: undefined; readonly value: undefined; readonly context: undefined }
    | {
        /** The newest committed state. What is equal in two states that follow each other is the same object. */
        readonly state: ActorState<M>;
        /** Its `value`: a name, or an object of names by region. */
        readonly value: ValueOf<M>;
        readonly context: Readonly<ContextOf<M>>;
      }
  );

/**
 * Watches an actor, and draws the component again whenever its committed state, or how the watch stands, changes. Goes on
 * by itself after a break. All components that show one actor share one watch, and all watches of a client one stream.
 *
 * @param target a definition, or what `actorType` gives
 * @param key which actor; undefined for none yet
 * @throws KeyturnError `invalid_address`, `invalid_options`
 */
export function useActor<T extends string, M extends Machine, R extends object>(
  target: ActorDefinition<T, M, R>,
  key: string | undefined,
  options?: UseActorOptions<M>,
): ActorView<M, R>;
export function useActor<D extends AnyActorDefinition>(
  target: ActorType<D>,
  key: string | undefined,
  options?: UseActorOptions<MachineOf<D>>,
): ActorView<MachineOf<D>, RepliesOf<D>>;
export function useActor(
  target: { readonly type: string },
  key: string | undefined,
  options: UseActorOptions = {},
): ActorView {
  const ref = useReference(target, key, options.client);
  const watched = useSyncExternalStore(...useStore(ref, options.initialState));
  const controls = useMemo(() => controlsOf(ref), [ref]);
  return useMemo(() => viewOf(ref, controls, watched), [ref, controls, watched]);
}

/**
 * A part of an actor's state: draws the component again only when that part is another one, by `Object.is`. Parts that
 * are equal in two states are the same object.
 * @param select undefined is selected while no state is known
 * @throws KeyturnError `invalid_address`, `invalid_options`
 */
export function useActorSelector<T extends string, M extends Machine, R extends object, S>(
  target: ActorDefinition<T, M, R>,
  key: string | undefined,
  select: (state: ActorState<M>) => S,
  options?: UseActorOptions<M>,
): S | undefined;
export function useActorSelector<D extends AnyActorDefinition, S>(
  target: ActorType<D>,
  key: string | undefined,
  select: (state: ActorState<MachineOf<D>>) => S,
  options?: UseActorOptions<MachineOf<D>>,
): S | undefined;
export function useActorSelector(
  target: { readonly type: string },
  key: string | undefined,
  select: (state: ActorState) => unknown,
  options: UseActorOptions = {},
): unknown {
  const [subscribe, now, onServer] = useStore(
    useReference(target, key, options.client),
    options.initialState,
  );
  const selected = (get: () => Watched) => (): unknown => {
    const { state } = get();
    return state === undefined ? undefined : select(state);
  };
  return useSyncExternalStore(subscribe, selected(now), selected(onServer));
}

type Ref = BrowserRef<Machine, object>;
type Store = readonly [
  subscribe: (listener: () => void) => () => void,
  now: () => Watched,
  onServer: () => Watched,
];

function useReference(
  { type }: { readonly type: string },
  key: string | undefined,
  given: BrowserClient | undefined,
): Ref | undefined {
  const provided = useContext(Context);
  const client = clientOr(given ?? provided);
  return useMemo(
    () => (key === undefined ? undefined : (client.actor({ type }, key) as Ref)),
    [client, type, key],
  );
}

/** What is known of an actor, in the form that React takes. Its functions are the same as long as the actor is. */
function useStore(ref: Ref | undefined, initialState: ActorState | undefined): Store {
  // The first one counts: who renders makes another object each time.
  const [first] = useState(() =>
    initialState === undefined
      ? undefined
      : { address: ref?.address, watched: Object.freeze({ ...UNKNOWN, state: initialState }) },
  );
  const initial = first !== undefined && first.address === ref?.address ? first.watched : undefined;
  const subscribe = useCallback(
    (listener: () => void) => ref?.subscribe(listener) ?? ((): void => undefined),
    [ref],
  );
  const now = useCallback((): Watched => {
    const watched = ref?.watched() ?? UNKNOWN;
    return initial !== undefined && watched === UNKNOWN ? initial : watched;
  }, [ref, initial]);
  const onServer = useCallback((): Watched => initial ?? UNKNOWN, [initial]);
  return [subscribe, now, onServer];
}

function clientOr(client: BrowserClient | undefined): BrowserClient {
  if (client !== undefined) return client;
  throw new KeyturnError(
    "invalid_options",
    "There is no client: put <KeyturnProvider client={createClient()}> around it, or give it as an option.",
  );
}

type Calls = Pick<ActorControls<Machine, object>, "send" | "ask">;

function controlsOf(ref: Ref | undefined): Calls {
  const there = (): Ref => {
    if (ref !== undefined) return ref;
    throw new KeyturnError("invalid_address", "There is no key yet, so there is nobody to ask.");
  };
  return {
    send: async (event, options) => there().send(event, options),
    ask: async (event, options) => there().ask(event, options),
  };
}

function viewOf(ref: Ref | undefined, controls: Calls, { state, status, error }: Watched): ActorView {
  const common = {
    ...controls,
    ref,
    status: ref === undefined ? ("idle" as const) : status,
    error,
    matches: (test: StateTest<Machine>) => matchesState(test, state?.value),
  };
  return state === undefined
    ? { ...common, state, value: undefined, context: undefined }
    : { ...common, state, value: state.value, context: state.context };
}
