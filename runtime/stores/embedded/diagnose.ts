/**
 * Looks at the folder of an embedded store: whether it can be used, and what to do if not. Changes nothing.
 *
 * Owns the questions to the file system. Who has the store open is asked by whoever can open it.
 */
import { access, constants, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { failure, fine, type Finding, warning } from "../../words/findings.ts";

const MiB = 1024 * 1024;
const SPACE_FAIL_BYTES = 100 * MiB;
const SPACE_WARN_BYTES = 1024 * MiB;
/** File systems that do not lock, or not reliably: Linux's numbers for NFS, SMB, CIFS, SMB2, 9p and FUSE. */
const REMOTE = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB"],
  [0x01021997, "9p"],
  [0x65735546, "FUSE"],
]);

export async function diagnoseFolder(path: string): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const file = await stat(join(path, "data", "data.mdb")).catch(() => undefined);
  if (file === undefined) {
    const text = `There is no embedded store in ${path}.`;
    return [failure("store", text, `A node makes one: keyturn start --data ${path}.`)];
  }
  findings.push(fine("store", `The store in ${path} takes ${mebibytes(file.size)}.`));
  findings.push(
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK).then(
      () => fine("access", "This user may read and write the folder."),
      (error: Error) =>
        failure(
          "access",
          `The folder cannot be written: ${error.message}.`,
          `Give it to this user: chown -R "$USER" ${path}.`,
        ),
    ),
  );
  const { mode } = await stat(path);
  if (process.platform !== "win32" && (mode & 0o077) !== 0)
    findings.push(
      warning("privacy", "Other users of this machine may look into the folder.", `chmod 700 ${path}`),
    );
  const { bavail, bsize, type } = await statfs(path);
  const free = bavail * bsize;
  const text = `The disk has ${mebibytes(free)} free.`;
  const remedy = "Free some space: on a full disk turns are refused (store_full).";
  if (free < SPACE_FAIL_BYTES) findings.push(failure("space", text, remedy));
  else findings.push(free < SPACE_WARN_BYTES ? warning("space", text, remedy) : fine("space", text));
  const remote = process.platform === "linux" ? REMOTE.get(type) : undefined;
  if (remote !== undefined)
    findings.push(
      warning(
        "file system",
        `The folder lies on ${remote}, which may not lock and flush as a local disk does.`,
        "Put it on a local disk.",
      ),
    );
  return findings;
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / MiB).toLocaleString("en")} MiB`;
}
