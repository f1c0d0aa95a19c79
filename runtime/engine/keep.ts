/**
 * How much of the journal is to be kept, as it is said and as it is checked.
 *
 * Owns the forms and the least that is kept. Talks to nobody.
 */
import { type Bytes, bytesOf } from "../words/bytes.ts";
import { type Duration, durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";

/**
 * How much is kept of the journal: all of it; what is not older (`{ age: "30 days" }`); or about the newest so many
 * bytes, of all journals together (`{ bytes: "10GB" }`). With both, what is older or beyond goes: whichever is met first.
 */
export type Keep =
  | "forever"
  | { readonly age: Duration; readonly bytes?: Bytes }
  | { readonly age?: Duration; readonly bytes: Bytes };

/** The least age that may be asked for. */
const YOUNGEST_MS = 60 * 60_000;
/** A pinned snapshot of an hour asks for what is this much older: see kv/entry.ts. */
const MARGIN_MS = 10 * 60_000;
/** What is to be kept, checked. */
export class KeepPolicy {
  readonly age_ms: number | undefined;
  readonly bytes: number | undefined;
  /** What is younger stays in any case. */
  readonly youngest_ms: number;

  constructor(age_ms: number | undefined, bytes: number | undefined, youngest_ms = YOUNGEST_MS + MARGIN_MS) {
    this.age_ms = age_ms;
    this.bytes = bytes;
    this.youngest_ms = youngest_ms;
  }

  get isForever(): boolean {
    return this.age_ms === undefined && this.bytes === undefined;
  }
}

/** @throws KeyturnError `invalid_options` */
export function policyOf(keep: unknown): KeepPolicy {
  if (keep instanceof KeepPolicy) return keep;
  if (keep === "forever") return new KeepPolicy(undefined, undefined);
  const given = (typeof keep === "object" && keep !== null ? keep : {}) as Record<string, unknown>;
  const { age, bytes, ...others } = given;
  if ((age === undefined && bytes === undefined) || Object.keys(others).length > 0)
    throw new KeyturnError(
      "invalid_options",
      'What is kept of the journal is "forever", { age: "30 days" }, { bytes: "10GB" } or both of these.',
    );
  const age_ms = age === undefined ? undefined : durationOf(age, "The age of what is kept");
  if (age_ms !== undefined && age_ms < YOUNGEST_MS)
    throw new KeyturnError(
      "invalid_options",
      'At least the last hour of the journal is kept: { age: "1 hour" }.',
    );
  return new KeepPolicy(age_ms, bytes === undefined ? undefined : bytesOf(bytes, "The size of what is kept"));
}
