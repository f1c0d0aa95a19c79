/** A value of any size as a tree that opens; what JSON has no form for is shown as what it is. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Json } from "./api.ts";
import { count } from "./format.ts";

const OPEN_PARTS = 40;
const TEXT_LENGTH = 400;

export function Value({ value, depth = 0 }: { value: Json | undefined; depth?: number }): VNode {
  if (value === undefined) return <span class="v-none">undefined</span>;
  if (value === null) return <span class="v-none">null</span>;
  if (typeof value === "string") return <Text text={value} />;
  if (typeof value !== "object") return <span class={`v-${typeof value}`}>{String(value)}</span>;
  const tagged = taggedOf(value);
  if (tagged !== undefined) return tagged;
  const isList = Array.isArray(value);
  const entries = Object.entries(value as Record<string, Json>);
  if (entries.length === 0) return <span class="v-none">{isList ? "[]" : "{}"}</span>;
  return <Parts entries={entries} isList={isList} depth={depth} />;
}

function Parts(props: { entries: [string, Json][]; isList: boolean; depth: number }): VNode {
  const { entries, isList, depth } = props;
  const [isOpen, setOpen] = useState(depth === 0 || (depth < 2 && entries.length <= OPEN_PARTS));
  const [most, setMost] = useState(OPEN_PARTS);
  const many = count(entries.length);
  const what = isList ? `[${many}]` : `{${many}}`;
  if (!isOpen)
    return (
      <button type="button" class="v-fold" aria-expanded="false" onClick={() => setOpen(true)}>
        {what} ▸
      </button>
    );
  return (
    <span class="v-parts">
      {depth > 0 && (
        <button type="button" class="v-fold" aria-expanded="true" onClick={() => setOpen(false)}>
          {what} ▾
        </button>
      )}
      <ul class={depth === 0 ? "v-root" : ""}>
        {entries.slice(0, most).map(([name, part]) => (
          <li key={name}>
            <span class="v-name">{name}</span> <Value value={part} depth={depth + 1} />
          </li>
        ))}
        {entries.length > most && (
          <li>
            <button type="button" class="v-fold" onClick={() => setMost(most + 200)}>
              {count(entries.length - most)} more
            </button>
          </li>
        )}
      </ul>
    </span>
  );
}

function Text({ text }: { text: string }): VNode {
  const [isWhole, setWhole] = useState(text.length <= TEXT_LENGTH);
  return (
    <span class="v-string">
      "{isWhole ? text : text.slice(0, TEXT_LENGTH)}"
      {!isWhole && (
        <button type="button" class="v-fold" onClick={() => setWhole(true)}>
          … {count(text.length)} characters
        </button>
      )}
    </span>
  );
}

function taggedOf(value: object): VNode | undefined {
  const names = Object.keys(value);
  const [name = ""] = names;
  if (names.length !== 1 || !/^~(date|bytes|bigint|number|undefined)$/.test(name)) return undefined;
  const inner = (value as Record<string, Json>)[name];
  if (name === "~bytes")
    return <span class="v-date">{count(Math.floor((String(inner).length * 3) / 4))} bytes</span>;
  if (name === "~undefined") return <span class="v-none">undefined</span>;
  return <span class={name === "~date" ? "v-date" : "v-number"}>{String(inner)}</span>;
}

/** A value in one line, cut. */
export function short(value: Json | undefined, length = 80): string {
  const text = value === undefined ? "undefined" : JSON.stringify(value);
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
