/**
 * Opens Stately's inspector beside the dashboard and passes on to it what the server tells of an actor.
 *
 * Nothing is loaded from elsewhere into this page: the inspector is a window of its own, and is told the events of
 * `/inspect` by messages that only its origin receives.
 */
import { actorPath, listen } from "./api.ts";

const INSPECTOR = "https://stately.ai/inspect";
const LOOK_MS = 1_000;

/** Goes on until the inspector's window is closed. @returns whether the window could be opened */
export function inspectWithStately(type: string, key: string): boolean {
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
