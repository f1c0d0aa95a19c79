/** What a look at a store, a server or a machine found: for `keyturn doctor`. */
export interface Finding {
  /** What was looked at, in a word or two. */
  readonly check: string;
  readonly level: "ok" | "warning" | "failure";
  /** What was found, in a sentence for people. */
  readonly text: string;
  /** What to do about it. */
  readonly remedy?: string | undefined;
}

export function fine(check: string, text: string): Finding {
  return { check, level: "ok", text };
}

export function warning(check: string, text: string, remedy?: string): Finding {
  return { check, level: "warning", text, remedy };
}

export function failure(check: string, text: string, remedy?: string): Finding {
  return { check, level: "failure", text, remedy };
}
