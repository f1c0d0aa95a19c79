/** What the commands about dead letters share: their options, and the exit code of what was refused again. */
import { isKeyturnError } from "../../words/errors.ts";
import { FAILED, REJECTED, UNKNOWN } from "../shell.ts";
import type { TargetFlags } from "../target.ts";

export interface DeadFlags extends TargetFlags {
  readonly type?: string;
  readonly code?: string;
  readonly limit?: number;
  readonly all?: boolean;
  readonly yes?: boolean;
  readonly timeout?: number;
  readonly source?: string;
}

export const LIMIT = 100;
export function codeOf(error: unknown): number {
  if (!isKeyturnError(error)) return FAILED;
  if (error.outcome === "rejected") return REJECTED;
  return error.outcome === "unknown" ? UNKNOWN : FAILED;
}
