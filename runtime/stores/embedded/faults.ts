/**
 * What went wrong underneath, as what a caller may conclude from it.
 *
 * Owns the mapping from LMDB's and the operating system's error numbers to the runtime's codes. Talks to statfs, to
 * tell a full disk from a broken one.
 *
 * Invariants:
 * 1. "full" means: certainly nothing of it is stored, and it may succeed when there is room.
 * 2. Whatever is not recognised is "failed", whose outcome is unknown.
 */
import { statfs } from "node:fs/promises";
import { constants } from "node:os";
import { KeyturnError, textOf } from "../../words/errors.ts";

const { ENOSPC, EDQUOT, EFBIG, EIO } = constants.errno;
/** LMDB: the map is full. This build of LMDB grows its map instead, but another one may not. */
const MDB_MAP_FULL = -30_792;
/** Below this much free space a failed write is taken for a full disk. */
const SLACK_BYTES = 1024 * 1024;

export type Fault = "full" | "failed";

/** Classifies the error of a commit of about so many bytes into a folder. */
export async function faultOf(cause: unknown, folder: string, bytes: number): Promise<Fault> {
  const code = codeOf(cause);
  if (code === ENOSPC || code === EDQUOT || code === EFBIG || code === MDB_MAP_FULL) return "full";
  // A disk that fills up in the middle of a page run shows as a short write, which LMDB reports as an I/O error.
  if (code === EIO && (await freeBytes(folder)) < bytes + SLACK_BYTES) return "full";
  return "failed";
}

/** The error that a caller gets for a fault. */
export function faultError(fault: Fault, cause: unknown): KeyturnError {
  if (fault === "full") {
    const text = `The embedded store has no room: ${textOf(cause)}. Free disk space, or raise mapSize_bytes.`;
    return new KeyturnError("store_full", text, { cause });
  }
  return new KeyturnError("store_failed", `The embedded store failed: ${textOf(cause)}.`, { cause });
}

/** The runtime's own errors as they are, everything else as `store_failed`. */
export function asStoreError(cause: unknown): KeyturnError {
  return cause instanceof KeyturnError ? cause : faultError("failed", cause);
}

function codeOf(cause: unknown): unknown {
  return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined;
}

/** Free space where a folder lies; infinite if that cannot be told. */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
