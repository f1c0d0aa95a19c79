/** One turn, or one step of a what-if: what came in, where it led, what it changed, and what went out. */
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import type { Json } from "./api.ts";
import { type Difference, differences } from "./diff.ts";
import { eventText, pathsOf, stateText } from "./format.ts";
import { linkTo } from "./hooks.ts";
import { short, Value } from "./value.tsx";

export interface DetailProps {
  readonly event: { readonly type: string; readonly [name: string]: Json };
  /** Before it, as far as that is known. */
  readonly before: { readonly value: Json; readonly context: Json } | undefined;
  readonly after: { readonly value: Json; readonly context: Json };
  readonly isFirst: boolean;
  readonly time: VNode;
  readonly refusal?: readonly [code: string, text: string] | undefined;
  readonly replied: boolean;
  readonly reply?: Json | undefined;
  readonly told: readonly { readonly to: string; readonly event: Json; readonly asked?: boolean }[];
  readonly emitted: readonly Json[];
  /** Of a what-if: nothing of it happens. */
  readonly would?: { readonly actions: readonly string[]; readonly begun: readonly string[] } | undefined;
}

export function Detail(props: DetailProps): VNode {
  const { event, before, after, isFirst, time, refusal, replied, reply, told, emitted, would } = props;
  const changes = useMemo(
    () => differences(before?.context ?? (isFirst ? {} : undefined), after.context),
    [before, after, isFirst],
  );
  const { type, ...parts } = event;
  const from = before === undefined ? undefined : stateText(before.value);
  const to = stateText(after.value);
  const is = (done: string, imagined: string): string => (would === undefined ? done : imagined);
  return (
    <>
      <p class="event">
        <strong title={type}>{eventText(type)}</strong>{" "}
        {Object.keys(parts).length > 0 && <Value value={parts as Json} depth={1} />}
      </p>
      <p class="way">
        {from !== undefined && from !== to && (
          <>
            <span class="state-chip">{from}</span> <span aria-hidden="true">→</span>{" "}
          </>
        )}
        {pathsOf(after.value).length > 0 && <span class="state-chip on">{to}</span>} {time}
      </p>
      {refusal !== undefined && (
        <p class="trouble">
          {refusal[0]}: {refusal[1]}
        </p>
      )}
      {refusal === undefined && (before !== undefined || isFirst) && <Changes changes={changes} />}
      {replied && (
        <p class="out">
          <span class="dim">{is("replied", "would reply")}</span> <Value value={reply ?? null} depth={1} />
        </p>
      )}
      {told.map(({ to, event, asked }, n) => (
        <p class="out" key={`${to} ${n}`} data-told={to}>
          <span class="dim">{asked ? is("asked", "would ask") : is("told", "would tell")}</span>{" "}
          <a href={linkTo(["actors", ...splitAddress(to)])}>{to}</a> <code>{short(event)}</code>
        </p>
      ))}
      {emitted.map((one, n) => (
        <p class="out" key={`${short(one)} ${n}`}>
          <span class="dim">{is("emitted", "would emit")}</span> <code>{short(one)}</code>
        </p>
      ))}
      {would?.actions.map((name, n) => (
        <p class="out" key={`${name} ${n}`}>
          <span class="dim">would run</span> {name}
        </p>
      ))}
      {would?.begun.map((path) => (
        <p class="out" key={path}>
          <span class="dim">would begin</span> {path}
        </p>
      ))}
    </>
  );
}

function Changes({ changes }: { changes: readonly Difference[] }): VNode {
  if (changes.length === 0) return <p class="dim">The context is as it was before.</p>;
  return (
    <div class="scroll-x">
      <table class="changes" aria-label="What the turn changed in the context">
        <tbody>
          {changes.map(({ path, kind, before, after }) => (
            <tr key={path} class={kind} data-path={path}>
              <th scope="row">{path === "" ? "context" : path}</th>
              <td class="old">{kind === "added" ? "" : short(before, 120)}</td>
              <td class="new">{kind === "removed" ? "" : short(after, 120)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function splitAddress(address: string): [string, string] {
  const at = address.indexOf("/");
  return at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
}
