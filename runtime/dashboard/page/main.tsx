/**
 * The dashboard: what runs in a cluster, for people who want to look at it.
 *
 * A client of the HTTP server like any other. Owns the frame of the page, its addresses (`#/`, `#/types/<type>`,
 * `#/actors/<type>/<key>`, `#/dead`, `#/dead/<source>`), the keys of the keyboard, and the question for a token.
 */
import { render, type VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ActorView } from "./actor.tsx";
import { onTokenNeeded, setToken } from "./api.ts";
import { ClusterView } from "./cluster.tsx";
import { DeadView } from "./dead.tsx";
import { linkTo, type Place, usePlace, useTheme } from "./hooks.ts";
import { Dialog } from "./parts.tsx";
import { splitAddress } from "./detail.tsx";
import { TypeView } from "./type.tsx";

const KEYS = [
  ["/", "go to an actor"],
  ["g c", "the cluster"],
  ["g d", "dead letters"],
  ["[  ]", "turn before, turn after"],
  ["l", "back to now"],
  ["w", "what if, from the turn that is looked at"],
  ["t", "light, dark, as the system"],
  ["?", "these keys"],
] as const;

function App(): VNode {
  const place = usePlace();
  const [theme, nextTheme] = useTheme();
  const [isHelp, setHelp] = useState(false);
  const [needsToken, setNeedsToken] = useState(false);
  const [round, setRound] = useState(0);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => onTokenNeeded(() => setNeedsToken(true)), []);
  useKeys({ search: () => search.current?.focus(), theme: nextTheme, help: () => setHelp(true) });
  useEffect(() => {
    document.title = [...place.parts.slice(1), "Keyturn"].join(" · ");
  }, [place]);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        To the content
      </button>
      <header class="top">
        <a class="brand" href={linkTo([])}>
          <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
            <rect width="32" height="32" rx="7" />
            <circle cx="11" cy="16" r="5" />
            <path d="M16 16h11v5M22 16v4" />
          </svg>
          Keyturn
        </a>
        <nav aria-label="Views">
          <a href={linkTo([])} aria-current={place.parts.length === 0 ? "page" : undefined}>
            Cluster
          </a>
          <a href={linkTo(["dead"])} aria-current={place.parts[0] === "dead" ? "page" : undefined}>
            Dead letters
          </a>
        </nav>
        <form
          class="go"
          aria-label="Go to an actor"
          onSubmit={(event) => {
            event.preventDefault();
            const [type, key] = splitAddress(search.current?.value.trim() ?? "");
            if (type !== "") location.hash = linkTo(key === "" ? ["types", type] : ["actors", type, key]);
            search.current?.blur();
          }}
        >
          <input
            ref={search}
            type="search"
            aria-label="Go to an actor"
            placeholder="Go to type/key"
            autoComplete="off"
            autocapitalize="off"
            spellcheck={false}
          />
        </form>
        <button
          type="button"
          class="quiet"
          aria-label={`Theme: ${theme}`}
          title={`Theme: ${theme} (t)`}
          onClick={nextTheme}
        >
          {theme === "auto" ? "◐" : theme === "light" ? "☀" : "☾"}
        </button>
        <button
          type="button"
          class="quiet for-keys"
          aria-label="Keys"
          title="Keys (?)"
          onClick={() => setHelp(true)}
        >
          ?
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <View key={round} place={place} />
      </main>
      {isHelp && (
        <Dialog title="Keys" onClose={() => setHelp(false)}>
          <dl class="keys">
            {KEYS.map(([key, what]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <div class="actions">
            <button type="button" onClick={() => setHelp(false)}>
              Close
            </button>
          </div>
        </Dialog>
      )}
      {needsToken && (
        <TokenDialog
          onDone={() => {
            setNeedsToken(false);
            setRound(round + 1);
          }}
        />
      )}
    </>
  );
}

function View({ place: { parts, query } }: { place: Place }): VNode {
  const [view, type, ...rest] = parts;
  const key = rest.join("/");
  if (view === undefined) return <ClusterView />;
  if (view === "dead") return <DeadView key={type} source={type} />;
  if (view === "types" && type !== undefined) return <TypeView key={type} type={type} query={query} />;
  if (view === "actors" && type !== undefined && key !== "")
    return <ActorView key={`${type}/${key}`} type={type} actorKey={key} query={query} />;
  return (
    <p>
      There is nothing at this address. <a href={linkTo([])}>To the cluster</a>
    </p>
  );
}

function TokenDialog({ onDone }: { onDone: () => void }): VNode {
  const [token, setText] = useState("");
  return (
    <Dialog title="A token is needed" onClose={() => undefined}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setToken(token);
          onDone();
        }}
      >
        <label>
          This server wants to know who asks. The token is kept until this tab is closed.
          <input
            type="password"
            name="token"
            autoComplete="off"
            required
            value={token}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <div class="actions">
          <button type="submit" class="main">
            Go on
          </button>
        </div>
      </form>
    </Dialog>
  );
}

interface Doing {
  readonly search: () => void;
  readonly theme: () => void;
  readonly help: () => void;
}

function useKeys(doing: Doing): void {
  const newest = useRef(doing);
  newest.current = doing;
  useEffect(() => {
    let isGoing = false;
    const pressed = (event: KeyboardEvent): void => {
      const { key, target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const isTyping =
        target instanceof HTMLElement && target.matches("input:not([type=range]), textarea, select");
      if (isTyping) {
        if (key === "Escape") target.blur();
        return;
      }
      const goes = isGoing;
      isGoing = key === "g";
      if (goes && (key === "c" || key === "d")) location.hash = linkTo(key === "c" ? [] : ["dead"]);
      else if (key === "/") {
        event.preventDefault();
        newest.current.search();
      } else if (key === "t") newest.current.theme();
      else if (key === "?") newest.current.help();
      else if (key === "[" || key === "]" || key === "l" || key === "w") press(key);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

/** Keys of the timeline press its buttons, wherever the focus is. */
function press(key: "[" | "]" | "l" | "w"): void {
  const name = {
    "[": ".scrub [aria-label='Turn before']",
    "]": ".scrub [aria-label='Turn after']",
    l: ".scrub .live",
    w: ".detail-actions button",
  }[key];
  document.querySelector<HTMLButtonElement>(name)?.click();
}

const app = document.getElementById("app");
if (app !== null) render(<App />, app);
