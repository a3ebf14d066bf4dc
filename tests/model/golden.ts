/** Reading the PyTorch goldens: see `tests/goldens/README.md`. */
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { readSafetensors } from "../../src/model/safetensors.ts";

/** A golden of one model. */
export interface Golden {
  floats(name: string): Float32Array;
  integers(name: string): Int32Array;
  shape(name: string): number[];
  has(name: string): boolean;
  /** Largest difference allowed. */
  atol(name: string): number;
  json: Record<string, unknown>;
}

export const GOLDENS = new URL("../goldens/", import.meta.url).pathname;

export function openGolden(directory: string): Golden {
  const weights = readSafetensors(join(directory, "golden.safetensors"));
  const json = JSON.parse(readFileSync(join(directory, "golden.json"), "utf8"));
  return {
    floats: (name) => weights.read(name),
    integers: (name) => weights.readIntegers(name),
    shape: (name) => weights.tensors.get(name)!.shape,
    has: (name) => weights.tensors.has(name),
    atol: (name) => json.tensors[name].atol,
    json,
  };
}

/** The rows of a padded batch without their padding, and where each kept token lies in [B, T]. */
export function unpad(ids: Int32Array, mask: Int32Array, [rows, time]: number[]) {
  const documents: number[][] = [], places: number[][] = [];
  for (let b = 0; b < rows; b++) {
    const kept = Array.from({ length: time }, (_, t) => b * time + t).filter((at) => mask[at] === 1);
    documents.push(kept.map((at) => ids[at]));
    places.push(kept);
  }
  return { documents, places };
}
