/** Small disks, for the tests of full ones: file systems in memory, which only some users may mount. */
import { withDirectory } from "./assets.ts";

/** Mounts; returns whether that was possible. */
export async function mount(...args: string[]): Promise<boolean> {
  return (await new Deno.Command("mount", { args, stderr: "null" }).output()).success;
}

async function canMount(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  let mounted = false;
  await withDirectory(async (directory) => {
    mounted = await mount("-t", "tmpfs", "-o", "size=65536", "tmpfs", directory);
    if (mounted) await new Deno.Command("umount", { args: [directory] }).output();
  });
  return mounted;
}

/** Whether this user may mount a file system. */
export const mountable = await canMount();
