/**
 * Sends an actor an event, or asks it: with a field for each part of the event where its schema says what these are, and
 * as JSON otherwise. What the current state takes is offered first.
 */
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useState } from "preact/hooks";
import { actorPath, ask, type Json, Refused, type Schema, textOf, type TypeDescription } from "./api.ts";
import { Value } from "./value.tsx";

export interface EventFormProps {
  readonly described: TypeDescription;
  readonly type: string;
  readonly actorKey: string;
  /** What the current state has transitions for. */
  readonly taken: ReadonlySet<string>;
  /** Chosen elsewhere, in the chart: a new object chooses again. */
  readonly chosen: { readonly event: string } | undefined;
  /** Events of the past by type: what to begin with. */
  readonly examples: ReadonlyMap<string, Readonly<Record<string, Json>>>;
  readonly isNew: boolean;
  /** Takes the event instead of the actor: it is for a what-if. */
  readonly compose?: ((event: Json) => void) | undefined;
}

type Mode = "ask" | "send" | "create";
type Outcome = {
  readonly mode: Mode;
  readonly value?: Json | undefined;
  readonly error?: string;
  readonly ms: number;
};

export function EventForm(props: EventFormProps): VNode {
  const { described, taken, chosen, examples, isNew, compose } = props;
  const names = useMemo(() => namesOf(described, taken), [described, taken]);
  const [event, setEvent] = useState("");
  const [texts, setTexts] = useState<Readonly<Record<string, string>>>({});
  const [rest, setRest] = useState("{}");
  const [outcome, setOutcome] = useState<Outcome>();
  const [isBusy, setBusy] = useState(false);
  const current = event === "" ? (names.find((name) => taken.has(name)) ?? names[0] ?? "") : event;
  const fields = useMemo(() => fieldsOf(described.eventSchema, current), [described, current]);
  const example = examples.get(current);
  const begin = (name: string): void => {
    setEvent(name);
    setOutcome(undefined);
  };
  // Both at once: what is typed a moment later must not be written over.
  useLayoutEffect(() => {
    if (chosen !== undefined) begin(chosen.event);
  }, [chosen]);
  // What is being typed is kept while turns come in.
  useLayoutEffect(() => {
    const { type: _, ...parts } = example ?? { type: "" };
    setRest(JSON.stringify(parts, null, 1).replace(/\n\s*/g, " "));
    setTexts(
      Object.fromEntries(fields?.map(([name, schema]) => [name, firstText(schema, parts[name])]) ?? []),
    );
  }, [current, fields, example === undefined]);

  const add = (): void => {
    try {
      compose?.(eventFrom(current, fields, texts, rest));
      setOutcome(undefined);
    } catch (error) {
      setOutcome({ mode: "send", error: textOf(error), ms: 0 });
    }
  };
  const submit = async (mode: Mode): Promise<void> => {
    setBusy(true);
    const began_ms = performance.now();
    const after = (): number => performance.now() - began_ms;
    try {
      const value = await sent(
        props,
        mode,
        mode === "create" ? inputFrom(rest) : eventFrom(current, fields, texts, rest),
      );
      setOutcome({ mode, value, ms: after() });
    } catch (error) {
      const code = error instanceof Refused ? `${error.problem.code}: ` : "";
      setOutcome({ mode, error: `${code}${textOf(error)}`, ms: after() });
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      class="event-form"
      aria-label={compose === undefined ? "Send an event" : "Imagine an event"}
      onSubmit={(submitted) => {
        submitted.preventDefault();
        if (compose === undefined) void submit("ask");
        else add();
      }}
    >
      <label for="event-type">
        Event
        {described.events === undefined ? (
          <input
            id="event-type"
            name="event"
            required
            value={event}
            onInput={(input) => begin(input.currentTarget.value)}
          />
        ) : (
          <select
            id="event-type"
            name="event"
            value={current}
            onChange={(input) => begin(input.currentTarget.value)}
          >
            {names.map((name) => (
              <option key={name} value={name}>
                {taken.has(name) ? `● ${name}` : `○ ${name}`}
              </option>
            ))}
          </select>
        )}
      </label>
      {fields === undefined ? (
        <label>
          Its other parts, as JSON
          <textarea
            name="rest"
            rows={rowsFor(rest)}
            spellcheck={false}
            value={rest}
            onInput={(input) => setRest(input.currentTarget.value)}
          />
        </label>
      ) : (
        fields.map(([name, schema, isRequired]) => (
          <Field
            key={name}
            name={name}
            schema={schema}
            isRequired={isRequired}
            text={texts[name] ?? ""}
            onText={(text) => setTexts({ ...texts, [name]: text })}
          />
        ))
      )}
      {compose !== undefined ? (
        <div class="actions">
          <button type="submit" class="main">
            What if?
          </button>
        </div>
      ) : (
        <div class="actions">
          <button type="submit" class="main" disabled={isBusy}>
            Ask
          </button>
          <button type="button" disabled={isBusy} onClick={() => submit("send")}>
            Send
          </button>
          {isNew && fields === undefined && (
            <button
              type="button"
              disabled={isBusy}
              title="Begins the actor; the JSON above is its input"
              onClick={() => submit("create")}
            >
              Create
            </button>
          )}
        </div>
      )}
      {outcome !== undefined && <Result outcome={outcome} />}
    </form>
  );
}

/** As many as the text takes, within reason. */
function rowsFor(text: string): number {
  return Math.min(10, Math.max(2, Math.ceil(text.length / 36), text.split("\n").length));
}

function Result({ outcome: { mode, value, error, ms } }: { outcome: Outcome }): VNode {
  if (error !== undefined)
    return (
      <p class="trouble" role="alert">
        {error}
      </p>
    );
  const what =
    mode === "send" ? "Taken" : mode === "create" ? "Begun" : value === null ? "Applied, no reply" : "Reply";
  return (
    <div class="result" role="status">
      <span class="dim">
        {what} in {ms.toFixed(1)} ms
      </span>
      {mode === "ask" && value !== null && <Value value={value} />}
    </div>
  );
}

function Field(props: {
  name: string;
  schema: Schema;
  isRequired: boolean;
  text: string;
  onText: (text: string) => void;
}): VNode {
  const { name, schema, isRequired, text, onText } = props;
  const kind = kindOf(schema);
  const choices = schema.enum ?? (kind === "boolean" ? [true, false] : undefined);
  const id = `field-${name}`;
  return (
    <label for={id}>
      <span>
        {name}
        {!isRequired && <span class="dim"> (optional)</span>}
      </span>
      {choices !== undefined ? (
        <select id={id} name={id} value={text} onChange={(input) => onText(input.currentTarget.value)}>
          {!isRequired && <option value="" />}
          {choices.map((choice) => (
            <option key={String(choice)} value={JSON.stringify(choice)}>
              {String(choice)}
            </option>
          ))}
        </select>
      ) : (
        <input
          id={id}
          name={id}
          type="text"
          inputMode={kind === "number" ? "decimal" : "text"}
          required={isRequired && kind !== "text"}
          placeholder={kind === "json" ? "JSON" : schema.description}
          value={text}
          onInput={(input) => onText(input.currentTarget.value)}
        />
      )}
    </label>
  );
}

async function sent({ type, actorKey }: EventFormProps, mode: Mode, body: Json): Promise<Json | undefined> {
  const answer = await ask<{ value?: Json } | undefined>(`${actorPath(type, actorKey)}?mode=${mode}`, {
    method: "POST",
    body,
    headers: { "idempotency-key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` },
  });
  return answer?.value ?? null;
}

/** Event types, those that the current state takes first. */
function namesOf({ events = [] }: TypeDescription, taken: ReadonlySet<string>): string[] {
  const plain = events.filter((name) => !name.endsWith("*"));
  return [...plain.filter((name) => taken.has(name)), ...plain.filter((name) => !taken.has(name))];
}

type FieldOf = readonly [name: string, schema: Schema, isRequired: boolean];

/** The parts of an event besides its type; undefined if its schema does not say. */
export function fieldsOf(schema: Schema | undefined, event: string): readonly FieldOf[] | undefined {
  const found = variantsOf(schema).find(({ properties }) => {
    const type = properties?.type;
    return type?.const === event || (type?.enum?.includes(event) ?? false);
  });
  if (found === undefined) return undefined;
  const { properties = {}, required = [] } = found;
  return Object.entries(properties)
    .filter(([name]) => name !== "type")
    .map(([name, part]) => [name, part, required.includes(name)]);
}

function variantsOf(schema: Schema | undefined): readonly Schema[] {
  if (schema === undefined) return [];
  return schema.properties === undefined
    ? [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap(variantsOf)
    : [schema];
}

function kindOf({ type }: Schema): "number" | "text" | "boolean" | "json" {
  if (type === "number" || type === "integer") return "number";
  if (type === "string") return "text";
  return type === "boolean" ? "boolean" : "json";
}

function firstText(schema: Schema, value: Json | undefined): string {
  const chosen = value ?? schema.default ?? schema.const;
  if (chosen === undefined)
    return schema.enum === undefined && kindOf(schema) !== "boolean"
      ? ""
      : JSON.stringify(schema.enum?.[0] ?? true);
  return kindOf(schema) === "text" && schema.enum === undefined ? String(chosen) : JSON.stringify(chosen);
}

/** @throws Error that says what is no JSON */
function eventFrom(
  type: string,
  fields: readonly FieldOf[] | undefined,
  texts: Readonly<Record<string, string>>,
  rest: string,
): Json {
  if (fields === undefined) return { ...(inputFrom(rest) as Record<string, Json>), type };
  const event: Record<string, Json> = { type };
  for (const [name, schema, isRequired] of fields) {
    const text = texts[name] ?? "";
    if (text === "" && !isRequired) continue;
    event[name] = kindOf(schema) === "text" && schema.enum === undefined ? text : parsed(text, name);
  }
  return event;
}

function inputFrom(text: string): Json {
  return text.trim() === "" ? {} : parsed(text, "This");
}

function parsed(text: string, name: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new Error(`${name} is not JSON: ${text.slice(0, 60)}`);
  }
}
