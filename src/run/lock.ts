/**
 * A run directory belongs to one process at a time.
 *
 * The file `lock` in it is held with an advisory lock of the operating system, which ends with its process however that
 * ends: a lock that a killed run left behind is free. The text in the file only says who holds it.
 *
 * @module
 */
import { join } from "node:path";

/** A held lock. */
export interface RunLock {
  /** Lets others use the directory. */
  release(): void;
}

/** Who holds a lock, for the message. */
function holder(path: string): string {
  try {
    const { pid, host, start } = JSON.parse(Deno.readTextFileSync(path));
    return `process ${pid} on ${host} (since ${start})`;
  } catch {
    return "another process";
  }
}

/**
 * Takes the lock of a run directory, which must exist.
 *
 * @throws {Error} that names the process that holds it.
 */
export function lockRun(directory: string): RunLock {
  const path = join(directory, "lock");
  // Not truncated on opening: until the lock is ours, the text is that of its holder.
  const file = Deno.openSync(path, { read: true, write: true, create: true });
  if (!file.tryLockSync(true)) {
    file.close();
    throw new Error(
      `Cannot use ${directory}: ${
        holder(path)
      } is using it. Wait for it, stop it, or choose another --output_dir.`,
    );
  }
  file.truncateSync(0);
  const text = JSON.stringify({ pid: Deno.pid, host: Deno.hostname(), start: new Date().toISOString() });
  file.writeSync(new TextEncoder().encode(text));
  return {
    release() {
      // The file stays: if it were removed, two others could each lock a file of this name.
      file.truncateSync(0);
      file.close();
    },
  };
}
