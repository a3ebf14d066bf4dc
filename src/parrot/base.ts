/**
 * The parrot's base model, trained by keel itself and kept beside this file; `keel pretrain` makes it again.
 *
 * @module
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FILES = [
  "config.json",
  "generation_config.json",
  "model.safetensors",
  "tokenizer.json",
  "tokenizer_config.json",
];

/** A Hugging Face directory with the base model. Where keel is not on a disk its files are fetched into a temporary one. */
export async function parrotBaseDirectory(): Promise<string> {
  const url = new URL("./base/", import.meta.url);
  if (url.protocol === "file:") return fileURLToPath(url);
  const directory = join(tmpdir(), "keel-parrot-base");
  mkdirSync(directory, { recursive: true });
  for (const file of FILES) {
    const response = await fetch(new URL(file, url));
    if (!response.ok) {
      throw new Error(`Cannot fetch the parrot's base model: ${response.status} for ${response.url}.`);
    }
    writeFileSync(join(directory, file), new Uint8Array(await response.arrayBuffer()));
  }
  return directory;
}
