/**
 * Files as sources: what they are known by, and their bytes from a position on.
 *
 * Owns the open handle of a reading, and the looking for more at a followed file's end.
 *
 * A file is known by a hash of its beginning, as long as that was when it was planned: so it may grow, be copied or
 * moved, and is noticed if it is replaced, or cut below what was read.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { KeyturnError } from "../../../words/errors.ts";
import { changed, unreadable } from "../reader.ts";

const HEAD_BYTES = 4_096;
const BLOCK_BYTES = 512 * 1_024;

export interface FileOptions {
  /** A file, or several: each is read as a partition of its own, or as several. */
  readonly path: string | readonly string[];
}

export interface FollowOptions {
  /** Goes on with what is appended later, until the run is stopped. */
  readonly follow?: boolean;
  /** How often a followed file is looked at, milliseconds; 100 by default. */
  readonly poll_ms?: number;
}

export interface LineOptions {
  /**
   * What stands after the last newline is no line yet: it is left until it is complete, by the run that finds it so. For
   * files that somebody may still write. False by default; a followed file is always read so.
   */
  readonly wholeLines?: boolean;
}

export interface RotationOptions {
  /**
   * A followed log is rotated: read on in the next file, each line once, also if it was renamed several times, compressed
   * (`.gz`) or cut after it was copied, and while nobody ran the source. What it was is looked for beside it, under names
   * that begin as its own: `access.log.1`, `access.log-20300101`, `access.log.2.gz`. Such a file is read as one part.
   */
  readonly rotated?: boolean;
}

/** @throws KeyturnError `invalid_options` */
export function checkRotated(rotated: unknown, follow: boolean, partitions: number): void {
  if (rotated !== undefined && typeof rotated !== "boolean")
    throw new KeyturnError("invalid_options", "rotated is true or false.");
  if (rotated === true && (!follow || partitions !== 1))
    throw new KeyturnError(
      "invalid_options",
      "A log that is rotated is followed, and read in one part: { follow: true, rotated: true }.",
    );
}

/** What a file is known by. */
export interface FileIdentity {
  readonly head: string;
  readonly headBytes: number;
}

export type PackedIdentity = Readonly<Record<string, string | number | null>>;

/** @throws KeyturnError `invalid_options` */
export function pathsOf({ path }: FileOptions): readonly string[] {
  const paths = typeof path === "string" ? [path] : path;
  if (
    !Array.isArray(paths) ||
    paths.length === 0 ||
    paths.some((one) => typeof one !== "string" || one === "")
  )
    throw new KeyturnError(
      "invalid_options",
      "A file source needs { path }: a file's name, or a list of such.",
    );
  if (new Set(paths).size !== paths.length)
    throw new KeyturnError("invalid_options", "A file is named twice in a source's path.");
  return paths as readonly string[];
}

/** @throws KeyturnError `source_failed` */
export async function sizeOfFile(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** @throws KeyturnError `source_failed` */
export async function identityOf(path: string): Promise<FileIdentity> {
  const file = await opened(path);
  try {
    const { size } = await file.stat();
    const headBytes = Math.min(size, HEAD_BYTES);
    return { head: await hashOf(file, headBytes), headBytes };
  } finally {
    await file.close();
  }
}

async function hashOf(file: FileHandle, bytes: number): Promise<string> {
  const head = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(head, 0, bytes, 0);
  return createHash("sha256").update(head.subarray(0, bytesRead)).digest("hex").slice(0, 32);
}

export async function opened(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** @throws KeyturnError `source_changed` */
export async function checkIdentity(
  file: FileHandle,
  path: string,
  identity: PackedIdentity,
  position: number,
): Promise<void> {
  const { size } = await file.stat();
  if (size < position)
    throw changed(
      `${path} has ${size} bytes, but was read up to byte ${position}: it was cut or replaced. ${REMEDY}`,
    );
  if ((await hashOf(file, identity.headBytes as number)) !== identity.head)
    throw changed(`${path} does not begin as it did when it was first read: it was replaced. ${REMEDY}`);
}

const REMEDY = "Give what is new a name of its own, or begin anew with resetSource().";

/** A file's bytes from a position on, and its end. */
export class FileBytes {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #follow: FollowOptions;
  readonly #signal: AbortSignal;
  #at: number;

  constructor(file: FileHandle, path: string, at: number, follow: FollowOptions, signal: AbortSignal) {
    this.#file = file;
    this.#path = path;
    this.#at = at;
    this.#follow = follow;
    this.#signal = signal;
  }

  /**
   * The next bytes; undefined at the end. Of a followed file there is none: it waits there.
   * @throws KeyturnError `source_changed`, `source_failed`
   */
  async next(): Promise<Buffer | undefined> {
    while (!this.#signal.aborted) {
      const block = Buffer.allocUnsafe(BLOCK_BYTES);
      let bytesRead: number;
      try {
        ({ bytesRead } = await this.#file.read(block, 0, BLOCK_BYTES, this.#at));
      } catch (cause) {
        throw unreadable(this.#path, cause);
      }
      if (bytesRead > 0) {
        this.#at += bytesRead;
        return block.subarray(0, bytesRead);
      }
      if (this.#follow.follow !== true) return undefined;
      await this.#checkEnd();
      const { poll_ms = 100 } = this.#follow;
      await sleep(poll_ms, undefined, { signal: this.#signal }).catch(() => undefined);
    }
    return undefined;
  }

  /** At the end of a followed file: it is still the one of that name, and was not cut. */
  async #checkEnd(): Promise<void> {
    const here = await this.#file.stat();
    const named = await stat(this.#path).catch((cause: unknown) => {
      throw unreadable(this.#path, cause);
    });
    if (named.ino !== here.ino || named.dev !== here.dev)
      throw changed(`${this.#path} was replaced while it was followed. ${REMEDY}`);
    if (here.size < this.#at)
      throw changed(`${this.#path} was cut to ${here.size} bytes, below byte ${this.#at}. ${REMEDY}`);
  }
}
