/**
 * The transport within one process: frames go by reference, at once.
 *
 * Owns the subscriptions. Shared by the stores that live in one process.
 *
 * Invariant: handlers are called in the order in which they subscribed, with every frame published after they did and
 * before they stopped, in order.
 */
import type { Transport } from "../ports/index.ts";
import type { Frame } from "../words/frames.ts";

type Handler = (frame: Frame) => void;

export class LocalTransport implements Transport {
  /** Handler lists are replaced, never changed, so that a handler may subscribe or stop while it is called. */
  readonly #handlers = new Map<string, readonly Handler[]>();

  publish(subject: string, frame: Frame): boolean {
    const handlers = this.#handlers.get(subject);
    if (handlers === undefined) return false;
    for (const handler of handlers) handler(frame);
    return true;
  }

  subscribe(subject: string, handler: Handler): () => void {
    // A function of its own, so that the same handler may subscribe twice and stop once.
    const own: Handler = (frame) => handler(frame);
    this.#handlers.set(subject, [...(this.#handlers.get(subject) ?? []), own]);
    return () => {
      const left = (this.#handlers.get(subject) ?? []).filter((other) => other !== own);
      if (left.length === 0) this.#handlers.delete(subject);
      else this.#handlers.set(subject, left);
    };
  }
}
