/**
 * The folder of a store, as files: what is checked before LMDB is let at it.
 *
 * Owns the layout `<path>/{created, lock/, data/}`. Talks to the file system only.
 *
 * lmdb-js 3.5 ends the process (it uses what it has freed) when LMDB cannot open an environment, and LMDB writes its
 * lock file through memory, which ends the process on a full disk. So what can make opening fail is looked for first,
 * and becomes a typed error.
 *
 * Invariants:
 * 1. A store that was created and whose data is gone is refused, not begun anew.
 * 2. `lock.mdb` is never opened here: closing any descriptor of it would drop this process's locks on it.
 */
import { access, constants, type FileHandle, mkdir, open, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { KeyturnError } from "../../words/errors.ts";
import { faultError, freeBytes } from "./faults.ts";

const MiB = 1024 * 1024;
/** LMDB's magic number, and where it and the page size stand in the first two pages. */
const MAGIC = 0xbeefc0de;
const MAGIC_AT = 24;
const PAGE_SIZE_AT = 48;

/** With the folders above it. Node's own way of doing that never ends where nothing can be made, as in /proc. */
async function makeFolder(path: string): Promise<void> {
  if (await exists(path)) return;
  const above = dirname(path);
  if (above !== path) await makeFolder(above);
  await mkdir(path, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    // Somebody else has just made it.
    if (cause.code !== "EEXIST") throw cause;
  });
}

export interface Folder {
  readonly path: string;
  readonly data: string;
  readonly lock: string;
}

/** Makes the folders and sees that they can be used, without any look at the data. */
export async function prepareFolder(path: string, map_bytes: number): Promise<Folder> {
  const folder: Folder = { path, data: join(path, "data"), lock: join(path, "lock") };
  await makeFolder(path);
  const isNew =
    !(await exists(join(folder.data, "lock.mdb"))) || !(await exists(join(folder.lock, "lock.mdb")));
  if (isNew && (await freeBytes(path)) < MiB) {
    throw faultError("full", new Error("the disk has not enough space for a new store"));
  }
  await mkdir(folder.data, { recursive: true });
  await mkdir(folder.lock, { recursive: true });
  await checkAddressSpace(map_bytes);
  await checkFiles(folder.lock);
  return folder;
}

/** Sees that the data can be opened. The folder's lock is held. */
export async function checkData({ path, data }: Folder): Promise<void> {
  const bytes = await checkFiles(data);
  if (bytes === 0 && (await exists(join(path, "created")))) {
    throw failed(
      `${join(data, "data.mdb")} is missing or empty. Restore a backup, or delete ${path} to begin anew`,
    );
  }
}

/** Notes that there is a store here, and makes the names of its files as durable as their contents. */
export async function markCreated({ path, data }: Folder): Promise<void> {
  const mark = join(path, "created");
  if (await exists(mark)) return;
  await syncFolder(data);
  await writeFile(mark, "An embedded Keyturn store. Copy or delete this folder only as a whole.\n", {
    flush: true,
  });
  await syncFolder(path);
  await syncFolder(dirname(path));
}

/** The data file's length; 0 if there is none. Throws if LMDB could not open it. */
async function checkFiles(folder: string): Promise<number> {
  const file = join(folder, "data.mdb");
  await access(folder, constants.R_OK | constants.W_OK);
  const lock = join(folder, "lock.mdb");
  if (await exists(lock)) await access(lock, constants.R_OK | constants.W_OK);
  if (!(await exists(file))) return 0;
  if (!(await stat(file)).isFile()) throw failed(`${file} is not a file`);
  const handle = await open(file, "r+");
  try {
    const { size } = await handle.stat();
    if (size === 0) return 0;
    const pageSize = await rootAt(handle, 0);
    if (!(pageSize >= 512 && size >= 2 * pageSize && (await rootAt(handle, pageSize)) === pageSize)) {
      throw failed(`${file} is damaged, or not an LMDB file. Restore a backup`);
    }
    return size;
  } finally {
    await handle.close();
  }
}

/** The page size that one of LMDB's two roots states, or NaN if none stands there. In the machine's byte order. */
async function rootAt(handle: FileHandle, position: number): Promise<number> {
  const bytes = new Uint8Array(PAGE_SIZE_AT + 4);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, position);
  const at = (offset: number): number => new Uint32Array(bytes.buffer, offset, 1)[0] as number;
  return bytesRead === bytes.length && at(MAGIC_AT) === MAGIC ? at(PAGE_SIZE_AT) : Number.NaN;
}

/** Linux only; elsewhere address space is not limited. */
async function checkAddressSpace(map_bytes: number): Promise<void> {
  if (process.platform !== "linux") return;
  const limits = await readFile("/proc/self/limits", "latin1").catch(() => "");
  const limit_bytes = Number(/^Max address space +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  // The process itself takes some, and a store that is opened again while the old map is not yet gone takes twice.
  if (map_bytes * 2 <= limit_bytes) return;
  throw failed(
    `this process may use ${limit_bytes} bytes of address space, and the store would reserve ${map_bytes}. ` +
      "Give it a smaller mapSize_bytes, or lift the limit (ulimit -v)",
  );
}

async function syncFolder(folder: string): Promise<void> {
  // Windows neither opens folders nor needs it.
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

function failed(problem: string): KeyturnError {
  return new KeyturnError("store_failed", `The embedded store cannot be opened: ${problem}.`);
}
