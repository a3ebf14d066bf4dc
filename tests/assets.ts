/**
 * Assets too large to commit (trained weights, real data), for the tests that need them: the folder named by
 * KEEL_TEST_ASSETS, else `shared` beside the repository.
 */

import { fileURLToPath } from "node:url";

/** Path of a committed golden. */
export function golden(path: string): string {
  return fileURLToPath(new URL(`goldens/${path}`, import.meta.url));
}

function findAssets(): string | undefined {
  const folder = Deno.env.get("KEEL_TEST_ASSETS") ?? fileURLToPath(new URL("../../shared", import.meta.url));
  try {
    return Deno.statSync(`${folder}/goldens`).isDirectory ? folder : undefined;
  } catch {
    return undefined;
  }
}

const assets = findAssets();

/** Path of an asset, e.g. `asset("goldens/models/stories260K")`; only within an {@linkcode assetTest}. */
export function asset(path: string): string {
  return `${assets}/${path}`;
}

/** A test that is skipped, visibly, where the assets are absent. */
export function assetTest(name: string, fn: () => void | Promise<void>): void {
  if (assets === undefined) Deno.test({ name: `${name} (skipped: no KEEL_TEST_ASSETS)`, ignore: true, fn });
  else Deno.test(name, fn);
}

/** A directory that is removed afterwards. */
export async function withDirectory(use: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "keel-test-" });
  try {
    await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
