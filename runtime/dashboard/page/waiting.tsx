/** What waits: messages for an actor, what it has invoked, and the delays of its machine. */
import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { Invocation, MailboxState, WaitingMessage } from "../../words/mailbox.ts";
import { actorPath, ask, textOf, type Timer } from "./api.ts";
import { splitAddress } from "./detail.tsx";
import { count, eventText, moment, span } from "./format.ts";
import { linkTo, useNow, usePolled } from "./hooks.ts";
import { Trouble } from "./parts.tsx";

const MAILBOX_MS = 1_000;
const TIMERS_MS = 10_000;
const SHOWN = 12;

const PHASES: Readonly<Record<WaitingMessage["phase"], string>> = {
  committing: "being written",
  deferred: "put off: there is no room for what it tells, or the actor cannot be read; tried again",
  loading: "until the actor is read",
  queued: "for its turn",
};

export function MailboxCard({ type, actorKey }: { type: string; actorKey: string }): VNode {
  const path = `${actorPath(type, actorKey)}/mailbox`;
  const { value, error } = usePolled((signal) => ask<MailboxState>(path, { signal }), MAILBOX_MS, [path]);
  const now = useNow(1_000);
  const groups = useMemo(() => grouped(value?.waiting ?? []), [value]);
  const shown = groups.slice(0, SHOWN);
  const rest = (value?.depth ?? 0) - shown.reduce((sum, { many }) => sum + many, 0);
  return (
    <section class="card" aria-label="Mailbox">
      <h2>
        Mailbox
        {value !== undefined && (
          <span class={`tag ${value.depth > 0 ? "busy" : ""}`} data-depth={value.depth}>
            {value.depth === 0 ? "empty" : count(value.depth)}
          </span>
        )}
      </h2>
      <Trouble error={error} />
      {value === undefined && error === undefined && <p class="dim quiet-line">Looking …</p>}
      {value?.failure !== undefined && (
        <p class="trouble">
          It cannot be loaded. {value.failure.code}: {value.failure.reason}
        </p>
      )}
      {value?.depth === 0 && <p class="dim quiet-line">Nothing waits{memoryText(value.memory)}.</p>}
      {value?.oldest !== undefined && (
        <p class="dim quiet-line">The first has waited for {span(Math.max(0, now - value.oldest))}.</p>
      )}
      <ul class="waiting">
        {shown.map(({ message: { event, from, phase, since }, many }, n) => (
          <li key={n} data-waiting={event} data-many={many} title={`since ${moment(since)}`}>
            <span class={`phase ${phase}`} title={PHASES[phase]} />
            <strong>{event}</strong>
            {many > 1 && <span class="tag">× {count(many)}</span>}
            <span class="dim">from {from === "actor" ? "another actor" : `a ${from}`}</span>
            <span class="age dim">{PHASES[phase].split(":")[0]}</span>
          </li>
        ))}
      </ul>
      {rest > 0 && <p class="dim quiet-line">And {count(rest)} more.</p>}
      {value !== undefined && value.invocations.length > 0 && (
        <>
          <h3 class="sub">Invoked, not done</h3>
          <ul class="waiting">
            {value.invocations.map((one) => (
              <InvocationRow key={`${one.path} ${one.phase}`} one={one} now={now} />
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** Neighbours of one kind in one row. */
function grouped(waiting: readonly WaitingMessage[]): { readonly message: WaitingMessage; many: number }[] {
  const groups: { readonly message: WaitingMessage; many: number }[] = [];
  for (const message of waiting) {
    const last = groups.at(-1);
    const { event, from, phase } = last?.message ?? {};
    if (last !== undefined && event === message.event && from === message.from && phase === message.phase)
      last.many++;
    else groups.push({ message, many: 1 });
  }
  return groups;
}

function memoryText(memory: MailboxState["memory"]): string {
  return memory === "loaded" ? "" : memory === "absent" ? ", and the actor is not in memory" : `; ${memory}`;
}

function InvocationRow({ one, now }: { one: Invocation; now: number }): VNode {
  const { path, src, kind, phase, since, attempt = 1, due, to } = one;
  const name = src.startsWith("xstate.invoke.") ? kind : src;
  return (
    <li data-invocation={path} title={src === path ? undefined : path}>
      <span class={`phase ${phase}`} />
      <strong>{name}</strong>
      {to === undefined ? (
        <span class="dim">{name === kind ? "" : kind}</span>
      ) : (
        <a href={linkTo(["actors", ...splitAddress(to)])}>{to}</a>
      )}
      <span class="age dim">
        {phase === "retrying" && due !== undefined
          ? `again ${due > now ? `in ${span(due - now)}` : "now"}`
          : phase === "asked"
            ? due === undefined
              ? "asked"
              : `asked, ${span(Math.max(0, due - now))} left`
            : phase === "queued"
              ? "behind others"
              : `for ${span(Math.max(0, now - (since ?? now)))}`}
        {attempt > 1 && `, attempt ${attempt}`}
      </span>
    </li>
  );
}

export function Timers(props: { type: string; actorKey: string; position: number }): VNode | null {
  const { type, actorKey, position } = props;
  const path = `${actorPath(type, actorKey)}/timers`;
  const { value, error, again } = usePolled(
    (signal) => ask<{ timers: Timer[] }>(path, { signal }),
    TIMERS_MS,
    [path],
    position,
  );
  const now = useNow(250);
  const [refusal, setRefusal] = useState<string>();
  const cancel = async ({ id, child }: Timer): Promise<void> => {
    try {
      const query = child === undefined ? "" : `?child=${encodeURIComponent(child)}`;
      await ask(`${path}/${encodeURIComponent(id)}${query}`, { method: "DELETE" });
      setRefusal(undefined);
      again();
    } catch (failure) {
      setRefusal(textOf(failure));
    }
  };
  const timers = value?.timers ?? [];
  if (timers.length === 0 && error === undefined) return null;
  return (
    <section class="card" aria-label="Timers">
      <h2>Timers</h2>
      <Trouble error={error ?? refusal} />
      <ul class="timers">
        {timers.map((timer) => (
          <li key={`${timer.child ?? ""} ${timer.id}`}>
            <span class="due" title={moment(timer.due)}>
              {timer.due > now ? `in ${span(timer.due - now)}` : "now"}
            </span>
            <span class="id">
              {timer.child === undefined ? "" : `${timer.child}: `}
              {eventText(timer.id)}
            </span>
            <button type="button" class="small-button" onClick={() => cancel(timer)}>
              Cancel
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
