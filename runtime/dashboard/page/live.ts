/** An actor's state as it changes. */
import { useEffect, useState } from "preact/hooks";
import { type ActorState, actorPath, listen, textOf } from "./api.ts";

/** More states a second nobody can see. */
const PAUSE_MS = 100;

export interface Live {
  readonly state: ActorState | undefined;
  readonly error: string | undefined;
}

export function useLive(type: string, key: string): Live {
  const [live, setLive] = useState<Live>({ state: undefined, error: undefined });
  useEffect(() => {
    const stop = new AbortController();
    setLive({ state: undefined, error: undefined });
    const heard = (event: string, data: string): void => {
      if (event === "state") setLive({ state: JSON.parse(data) as ActorState, error: undefined });
      else if (event === "problem")
        setLive(({ state }) => ({ state, error: (JSON.parse(data) as { detail?: string }).detail ?? data }));
    };
    const broken = (error: unknown): void => setLive(({ state }) => ({ state, error: textOf(error) }));
    void listen(`${actorPath(type, key)}/watch?pause=${PAUSE_MS}`, stop.signal, heard, broken);
    return () => stop.abort();
  }, [type, key]);
  return live;
}
