/**
 * The page: nine tables, and the one that is played at. Of the game it has the types only; what is allowed is decided where
 * the actor is.
 */
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { actorType, createClient } from "keyturn/browser";
import { type ActorView, KeyturnProvider, useActor } from "keyturn/react";
import type { game, Side } from "../game.ts";

const games = actorType<typeof game>("game");
type Table = ActorView<typeof game.machine, { sit: Side | null; take: boolean }>;

/** Each window is somebody else; a reload is not. */
const me = (sessionStorage.player ??= crypto.getRandomValues(new Uint32Array(2)).join("-")) as string;
const TABLES = Array.from({ length: 9 }, (_, n) => `table-${n + 1}`);

const tableName = (): string => location.hash.slice(1) || (TABLES[0] as string);

function useTableName(): string {
  const [name, setName] = useState(tableName);
  useEffect(() => {
    const changed = (): void => setName(tableName());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return name;
}

function App() {
  const name = useTableName();
  return (
    <main>
      <TableView name={name} />
      <nav aria-label="Tables">
        {TABLES.map((one) => (
          <a key={one} href={`#${one}`} aria-current={one === name}>
            <Small name={one} />
          </a>
        ))}
      </nav>
    </main>
  );
}

/** All of them are shown live, in one stream. */
function Small({ name }: { readonly name: string }) {
  const { context } = useActor(games, name);
  return (
    <span className="small" data-small={name}>
      {(context?.board ?? Array.from({ length: 9 }, () => null)).map((field, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a field is its place
        <i key={at} className={field ?? ""} />
      ))}
    </span>
  );
}

function TableView({ name }: { readonly name: string }) {
  const table = useActor(games, name);
  const { context, status, error, send, ask } = table;
  const [failure, setFailure] = useState<string>();
  if (context === undefined)
    return (
      <section className="table">
        <Connection status={status} />
        {error && <p role="alert">{error.message}</p>}
      </section>
    );
  const { board, seats, line, next, score } = context;
  const mine: Side | undefined = seats.x === me ? "x" : seats.o === me ? "o" : undefined;
  /** What was not done is said; what was is seen. */
  const trying = (call: Promise<unknown>): void => {
    setFailure(undefined);
    call.catch((fault: Error) => setFailure(fault.message));
  };
  return (
    <section className="table" data-turn={table.state.turn}>
      <header>
        <h1>{name.replace("-", " ")}</h1>
        <Connection status={status} />
      </header>
      <p className="says" data-next={next} data-mine={mine}>
        {says(table, mine)}
      </p>
      <div className="board">
        {board.map((field, at) => (
          <button
            // biome-ignore lint/suspicious/noArrayIndexKey: a field is its place
            key={at}
            type="button"
            className={`${field ?? ""} ${line.includes(at) ? "won" : ""}`}
            aria-label={`Field ${at + 1}: ${field ?? "free"}`}
            disabled={mine !== next || field !== null || !table.matches("playing")}
            onClick={() => trying(ask({ type: "take", player: me, field: at }))}
          >
            {field === "x" ? "×" : field === "o" ? "○" : ""}
          </button>
        ))}
      </div>
      <footer>
        <span className="score">
          × {score.x} : {score.o} ○
        </span>
        {mine === undefined && (seats.x === null || seats.o === null) && (
          <button type="button" onClick={() => trying(ask({ type: "sit", player: me }))}>
            Play
          </button>
        )}
        {mine !== undefined && !table.matches("playing") && (
          <button type="button" onClick={() => trying(send({ type: "again" }))}>
            Again
          </button>
        )}
        {mine !== undefined && (
          <button type="button" className="quiet" onClick={() => trying(send({ type: "stand", player: me }))}>
            Leave
          </button>
        )}
      </footer>
      {failure !== undefined && <p role="alert">{failure}</p>}
    </section>
  );
}

function says({ context, matches }: Table, mine: Side | undefined): string {
  if (context === undefined) return "";
  const { seats, winner, next } = context;
  if (matches("drawn")) return "Nobody has won.";
  if (winner !== null) return winner === mine ? "You have won." : `${winner === "x" ? "×" : "○"} has won.`;
  if (mine === undefined) return seats.x === null || seats.o === null ? "A seat is free." : "You look on.";
  if (seats.x === null || seats.o === null) return "Open this page in another window, and play there too.";
  return next === mine ? "Your turn." : "It is the other's turn.";
}

function Connection({ status }: { readonly status: string }) {
  return (
    <span className="connection" data-status={status}>
      {status}
    </span>
  );
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <KeyturnProvider client={createClient()}>
      <App />
    </KeyturnProvider>
  </StrictMode>,
);
