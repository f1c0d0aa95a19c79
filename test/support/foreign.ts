/** Bytes from outside, and what becomes of them. */
import { isKeyturnError } from "../../runtime/words/errors.ts";

export const MAX = 1 << 20;

/** "accepted" or the text of the refusal. Anything but `invalid_frame` is thrown on. */
export function outcome(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isKeyturnError(error, "invalid_frame")) return error.message;
    throw error;
  }
  return "accepted";
}

export const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
