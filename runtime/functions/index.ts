/**
 * `keyturn/functions`: stateful functions, for people who think in functions and not in machines.
 *
 * ```ts
 * const counter = defineState("counter", 0);
 * const process = defineFunction("process", { counter }, (event: { value: number }, { counter }) => {
 *   return { state: { counter: counter + event.value }, result: counter + event.value };
 * });
 * const node = await startNode({ actors: [process], store: embedded({ path: "data/counters" }) });
 * const app = functions(node.client, process);
 * await app.processEvent({ key: "a", value: 1 });
 * await app.updateState("a", 1, "add");
 * console.log(await app.getState("a")); // 2
 * ```
 */
export { type Functions, functions, type FunctionsOf, type Message } from "./client.ts";
export {
  type AnyFunction,
  defineFunction,
  defineFunctions,
  type EventOf,
  type FunctionGroup,
  type FunctionOptions,
  type GroupOptions,
  type Handler,
  type ResultOf,
  type StatefulFunction,
  type StatesOf,
} from "./function.ts";
export type { FunctionContext, Returned, SendAfterOptions } from "./invocation.ts";
export { defineRemoteFunction, type RemoteOptions } from "./remote.ts";
export { type HandlerOf, serveFunctions } from "./serve.ts";
export { defineState, type State, type StateOptions, type States, type ValuesOf } from "./state.ts";
export type { Operation } from "./update.ts";
