/** Clients of pages, on servers behind a proxy that breaks, or that answer as they are told. */
import { defineActor, reply } from "keyturn";
import { type BrowserClient, type ClientOptions, createClient, type Watched } from "keyturn/browser";
import type { HttpOptions } from "keyturn/http";
import { assign, setup } from "xstate";
import { counter } from "../../actors/index.ts";
import { TcpProxy } from "../chaos/proxy.ts";
import { afterwards, served } from "./http.ts";
import { parcel } from "./parcels.ts";

/** Keeps the order in which it was told something, and answers oddly. */
export const diary = defineActor({
  type: "diary",
  machine: setup({
    types: {
      context: {} as { notes: readonly unknown[]; same: { readonly deep: readonly number[] } },
      events: {} as { type: "note"; note: unknown } | { type: "nothing" } | { type: "fail" },
    },
  }).createMachine({
    context: { notes: [], same: { deep: [1, 2] } },
    on: {
      note: {
        actions: [
          assign({ notes: ({ context, event }) => [...context.notes, event.note] }),
          reply(({ context }) => context.notes.length),
        ],
      },
      nothing: { actions: reply(null) },
      fail: {
        actions: () => undefined,
        guard: () => {
          throw new Error("It was asked to.");
        },
      },
    },
  }),
  types: {} as { replies: { note: number; nothing: null } },
});

export const actors = [counter, diary, parcel];

export const SOON = { timeout: 10_000 };

export function clientOf(options: ClientOptions): BrowserClient {
  const client = createClient(options);
  afterwards(async () => client.close());
  return client;
}

/** A server, a proxy before it, and a client that knows only the proxy. */
export async function behindProxy(options: HttpOptions = {}) {
  const { node, server } = await served(actors, options);
  const proxy = await TcpProxy.start([server.port]);
  afterwards(() => proxy.close());
  return { node, server, proxy, client: clientOf({ url: `http://${proxy.addresses[0]}` }) };
}

/** Resolves when what is watched fits. */
export function until<S>(
  ref: { subscribe(listener: (watched: Watched<S>) => void): () => void; watched(): Watched<S> },
  fits: (watched: Watched<S>) => boolean,
): Promise<Watched<S>> {
  return new Promise((resolve) => {
    let leave: () => void = () => undefined;
    const look = (watched: Watched<S>): void => {
      if (!fits(watched)) return;
      queueMicrotask(() => leave());
      resolve(watched);
    };
    leave = ref.subscribe(look);
    look(ref.watched());
  });
}
