/**
 * What happens outside of machines, in the hands of a test: promises that it settles, callbacks and observables that it
 * lets speak, and a list of what user code did. Whatever is named is meant as it was begun last: what recovery runs
 * again takes the place of what ran before.
 */
import { fromCallback, fromEventObservable, fromObservable, fromPromise, type EventObject } from "xstate";

/** A run of a promise's creator, as it was given to it. */
export interface Run {
  readonly input: unknown;
  readonly idempotencyKey: string;
  readonly attempt: number;
  readonly signal: AbortSignal;
}

interface Settle {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface Sink {
  next(value: unknown): void;
  complete(): void;
  error(error: unknown): void;
}

export class Outside {
  /** What custom actions and callbacks did, in order. */
  readonly done: unknown[] = [];
  /** Runs of promises by name. */
  readonly runs: Record<string, Run[]> = {};
  /** How often a callback or observable was begun, and ended, by name. */
  readonly begun: Record<string, number> = {};
  readonly ended: Record<string, number> = {};
  /** Inputs of callbacks and observables, by name, one for each time they were begun. */
  readonly inputs: Record<string, unknown[]> = {};
  readonly #settle: Record<string, Settle> = {};
  readonly #send: Record<string, (event: EventObject) => void> = {};
  readonly #sinks: Record<string, Sink> = {};

  /** A custom action that notes what it is given. */
  readonly note = (_args: unknown, params: unknown): void => {
    this.done.push(params);
  };

  promise(name: string) {
    // biome-ignore lint/suspicious/noExplicitAny: any input and output
    return fromPromise<any, any>((args) => {
      (this.runs[name] ??= []).push(args as never);
      return new Promise((resolve, reject) => {
        this.#settle[name] = { resolve, reject };
      });
    });
  }

  resolve(name: string, value: unknown): void {
    of(this.#settle, name).resolve(value);
  }

  reject(name: string, error: unknown): void {
    of(this.#settle, name).reject(error);
  }

  /** Notes what it is sent. */
  callback(name: string) {
    // biome-ignore lint/suspicious/noExplicitAny: any input
    return fromCallback<EventObject, any>(({ sendBack, receive, input }) => {
      this.#begin(name, input);
      this.#send[name] = sendBack as never;
      receive((event) => this.done.push({ [name]: event }));
      return () => this.#end(name);
    });
  }

  sendBack(name: string, event: EventObject): void {
    of(this.#send, name)(event);
  }

  observable(name: string) {
    // biome-ignore lint/suspicious/noExplicitAny: any value and input
    return fromObservable<any, any>(({ input }) => this.#source(name, input) as never);
  }

  eventObservable(name: string) {
    // biome-ignore lint/suspicious/noExplicitAny: any event and input
    return fromEventObservable<any, any>(({ input }) => this.#source(name, input) as never);
  }

  next(name: string, value: unknown): void {
    of(this.#sinks, name).next(value);
  }

  complete(name: string): void {
    of(this.#sinks, name).complete();
  }

  fail(name: string, error: unknown): void {
    of(this.#sinks, name).error(error);
  }

  #source(name: string, input: unknown) {
    return {
      subscribe: (sink: Sink) => {
        this.#begin(name, input);
        this.#sinks[name] = sink;
        return { unsubscribe: () => this.#end(name) };
      },
    };
  }

  #begin(name: string, input: unknown): void {
    this.begun[name] = (this.begun[name] ?? 0) + 1;
    (this.inputs[name] ??= []).push(input);
  }

  #end(name: string): void {
    this.ended[name] = (this.ended[name] ?? 0) + 1;
  }
}

function of<T>(all: Readonly<Record<string, T>>, name: string): T {
  const found = all[name];
  if (found === undefined) throw new Error(`"${name}" was not begun.`);
  return found;
}
