/**
 * SmolLM2-135M-Instruct as a GGUF file (98 MB, Apache-2.0), for the tests that need a trained model: the file named by
 * KEEL_TEST_SMOLLM2, else one in `.cache/smollm2`, where `python/fetch_smollm2.sh .cache/smollm2` puts it.
 */
import { fileURLToPath } from "node:url";
import { assetTest } from "./assets.ts";

/** Path of the file, or undefined. */
export function smollm2(): string | undefined {
  const named = Deno.env.get("KEEL_TEST_SMOLLM2");
  if (named) return named;
  const folder = fileURLToPath(new URL("../.cache/smollm2", import.meta.url));
  try {
    const name = [...Deno.readDirSync(folder)].find((entry) => entry.name.endsWith(".gguf"))?.name;
    return name && `${folder}/${name}`;
  } catch {
    return undefined;
  }
}

/** A test that is skipped, visibly, where the file or the assets to compare it with are absent. */
export function smollm2Test(name: string, fn: (path: string) => void | Promise<void>): void {
  const path = smollm2();
  if (path === undefined) {
    Deno.test({ name: `${name} (skipped: no KEEL_TEST_SMOLLM2)`, ignore: true, fn: () => {} });
  } else assetTest(name, () => fn(path));
}
