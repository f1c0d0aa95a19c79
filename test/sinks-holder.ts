/** A program that holds the lock of a file that a sink writes, and never lets go. Arguments: the lock's folder. */
import { FolderLock } from "../runtime/stores/embedded/lock.ts";

const lock = await FolderLock.take("it", process.argv[2] as string);
process.stdout.write("held\n");
setInterval(() => lock, 1_000_000);
