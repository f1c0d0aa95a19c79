/**
 * Stately's inspector beside the dashboard: how to attach it, and a window of its own that is told what the server tells of
 * an actor.
 *
 * Nothing is loaded from elsewhere into this page: the inspector is told the events of `/inspect` by messages that only its
 * origin receives. Others attach by WebSocket, without this page.
 */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { actorPath, hasToken, listen } from "./api.ts";
import { Dialog } from "./parts.tsx";

const INSPECTOR = "https://stately.ai/inspect";
const LOOK_MS = 1_000;

export function StatelyButton({ type, actorKey }: { type: string; actorKey: string }): VNode {
  const [isOpen, setOpen] = useState(false);
  const [isRefused, setRefused] = useState(false);
  const origin = location.origin.replace(/^http/, "ws");
  const url = `${origin}${actorPath(type, actorKey)}/inspect${hasToken() ? "?access_token=…" : ""}`;
  const code = `import { createWebSocketReceiver } from "@statelyai/inspect";

createWebSocketReceiver({
  server: ${JSON.stringify(url)},
}).subscribe(console.log);`;
  return (
    <>
      <button type="button" onClick={() => setOpen(true)}>
        Inspect…
      </button>
      {isOpen && (
        <Dialog title="Stately's inspector" onClose={() => setOpen(false)}>
          <p>
            This server speaks its protocol. Opened here, the inspector is a window of stately.ai, which is
            then told this actor's states and events.
          </p>
          {isRefused && <p class="trouble">The browser did not open a window. Allow it, then try again.</p>}
          <p>A program of yours attaches by WebSocket:</p>
          <pre class="code">
            <code>{code}</code>
          </pre>
          <div class="actions">
            <button
              type="button"
              class="main"
              onClick={() => setRefused(!inspectWithStately(type, actorKey))}
            >
              Open stately.ai ↗
            </button>
            <button type="button" onClick={() => void navigator.clipboard?.writeText(url)}>
              Copy the address
            </button>
            <button type="button" onClick={() => setOpen(false)}>
              Close
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

/** Goes on until the inspector's window is closed. @returns whether the window could be opened */
function inspectWithStately(type: string, key: string): boolean {
  const inspector = window.open(INSPECTOR, "keyturn-stately");
  if (inspector === null) return false;
  const stop = new AbortController();
  const told: unknown[] = [];
  let isThere = false;
  const tell = (event: unknown): void => inspector.postMessage(event, new URL(INSPECTOR).origin);
  const connected = ({ source, data }: MessageEvent): void => {
    if (source !== inspector || (data as { type?: unknown } | null)?.type !== "@statelyai.connected") return;
    isThere = true;
    for (const event of told) tell(event);
  };
  addEventListener("message", connected, { signal: stop.signal });
  const heard = (name: string, data: string): void => {
    if (name !== "message") return;
    const event: unknown = JSON.parse(data);
    told.push(event);
    if (told.length > 500) told.splice(1, 1);
    if (isThere) tell(event);
  };
  void listen(`${actorPath(type, key)}/inspect`, stop.signal, heard, () => undefined);
  const looking = setInterval(() => {
    if (!inspector.closed) return;
    clearInterval(looking);
    stop.abort();
  }, LOOK_MS);
  return true;
}
