/**
 * Counters in React, for test/browser-react.test.ts: `?keys=a,b` shows each, in strict mode; `&url=` and `&token=` say of
 * which server. What it does can be steered
 * through `page`, and what was drawn is counted.
 */
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { actorType, createClient } from "keyturn/browser";
import { KeyturnProvider, useActor, useActorSelector } from "keyturn/react";
import type { counter } from "../../actors/counter.ts";

const counters = actorType<typeof counter>("counter");
const asked = new URLSearchParams(location.search);
const client = createClient({
  url: asked.get("url") ?? undefined,
  token: asked.get("token") ?? undefined,
});

declare global {
  interface Window {
    page: { show(keys: readonly string[]): void; drawn: number };
  }
}

function Counter({ name }: { readonly name: string }) {
  const { state, context, status, error, matches, send, ask } = useActor(counters, name);
  const [answer, setAnswer] = useState<string>("");
  if (state === undefined)
    return (
      <li data-key={name} data-status={status}>
        {error?.code ?? "…"}
      </li>
    );
  const add = async (): Promise<void> => {
    try {
      setAnswer(String(await ask({ type: "add", by: 1 })));
    } catch (failure) {
      setAnswer(String(failure));
    }
  };
  return (
    <li data-key={name} data-status={status} data-count={context.count} data-turn={state.turn}>
      <button type="button" className="add" onClick={add}>
        +
      </button>
      <button type="button" className="switch" onClick={() => send({ type: matches("on") ? "off" : "on" })}>
        {matches("on") ? "on" : "off"}
      </button>
      <output>{answer}</output>
    </li>
  );
}

/** Draws only when it is switched. */
function Switch({ name }: { readonly name: string }) {
  const value = useActorSelector(counters, name, (state) => state.value);
  window.page.drawn++;
  return <i data-switch={value ?? ""}>{value ?? "…"}</i>;
}

function App() {
  const [keys, setKeys] = useState<readonly string[]>(asked.get("keys")?.split(",") ?? []);
  window.page = { show: setKeys, drawn: window.page?.drawn ?? 0 };
  return (
    <>
      <ul>
        {keys.map((name, at) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: so that a counter's key changes while its component stays
          <Counter key={`${at}`} name={name} />
        ))}
      </ul>
      {keys.length > 0 && <Switch name={keys[0] as string} />}
    </>
  );
}

const root = document.createElement("div");
document.body.append(root);
createRoot(root).render(
  <StrictMode>
    <KeyturnProvider client={client}>
      <App />
    </KeyturnProvider>
  </StrictMode>,
);
