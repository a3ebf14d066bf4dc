/** Reading `goldens/families`: models whose weights a hash of name and place makes (`goldens/src/make_families.py`). */
import { type ModelConfig, parseConfig } from "../../src/model/config.ts";
import type { JsonObject } from "../../src/model/json_file.ts";
import type { HostTensor, HostWeights } from "../../src/model/params.ts";
import { golden } from "../assets.ts";
import type { BatchResults, PaddedBatch } from "./batch.ts";

/** Shape, scale and shift of a weight. */
type Spread = [shape: number[], scale: number, shift: number];

/** What both kinds of file hold. */
interface Kept {
  salt: string;
  weights: Record<string, Spread>;
  tensors: Record<string, { atol: number; values: number[] }>;
}

/** A file of a model. */
export interface FamilyGolden extends Kept {
  config: JsonObject;
  input_ids: number[][];
  attention_mask: number[][];
  labels: number[][];
  prompts: number[][];
  greedy_ids: number[][];
}

/** A file of an adapter. */
export interface AdapterGolden extends Kept {
  base: string;
  adapter: JsonObject;
}

/** Names of all files, without their ending. */
function allNames(): string[] {
  return Array.from(Deno.readDirSync(golden("families")), ({ name }) => name.replace(/\.json$/, "")).sort();
}

const isAdapter = (name: string) => /-(lora|rslora|dora)$/.test(name);

/** Names of the models' files. */
export const familyNames = (): string[] => allNames().filter((name) => !isAdapter(name));

/** Names of the adapters' files. */
export const adapterNames = (): string[] => allNames().filter(isAdapter);

/** Reads `goldens/families/NAME.json`. */
export function familyGolden<G extends Kept = FamilyGolden>(name: string): G {
  return JSON.parse(Deno.readTextFileSync(golden(`families/${name}.json`)));
}

/** Numbers in [−1, 1), multiples of 2⁻²³: FNV-1a of the label, plus the index times a constant, mixed. */
export function uniform(label: string, count: number): Float64Array {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(label)) seed = Math.imul(seed ^ byte, 0x01000193) >>> 0;
  return Float64Array.from({ length: count }, (_, index) => {
    let x = (Math.imul(index, 0x9e3779b9) + seed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    x ^= x >>> 15;
    return (x >>> 8) / 2 ** 23 - 1;
  });
}

/** The weights of a file. */
export function hashWeights({ salt, weights }: Kept): HostWeights {
  const tensor = (name: string, [shape, scale, shift]: Spread): HostTensor => {
    const values = uniform(`${salt}/${name}`, shape.reduce((a, b) => a * b));
    return { shape, data: Float32Array.from(values, (x) => scale * x + shift) };
  };
  return Object.fromEntries(Object.entries(weights).map(([name, spread]) => [name, tensor(name, spread)]));
}

/** The config of a file. */
export function familyConfig({ config }: FamilyGolden): ModelConfig {
  return parseConfig(config, "config.json");
}

/** The batch of a file. */
export function familyBatch({ input_ids: ids, attention_mask: mask, labels }: FamilyGolden): PaddedBatch {
  const flat = (rows: number[][]) => Int32Array.from(rows.flat());
  return { ids: flat(ids), mask: flat(mask), labels: flat(labels), shape: [ids.length, ids[0].length] };
}

/** What the files keep of results. */
export function keptOf({ outputs, gradients }: BatchResults, { mask, shape: [rows, time] }: PaddedBatch) {
  const { logits, loss, logprobs_t1 } = outputs, vocab = logits.length / rows / time;
  const last = Array.from({ length: rows }, (_, b) => {
    const at = b * time + mask.subarray(b * time, (b + 1) * time).lastIndexOf(1);
    return [...logits.subarray(at * vocab, (at + 1) * vocab)];
  }).flat();
  const kept: Record<string, ArrayLike<number>> = { loss, logprobs_t1, logits_last: last };
  for (const [name, { data }] of Object.entries(gradients)) {
    const dot = (k: number) => {
      const other = uniform(`dot${k}/${name}`, data.length);
      return data.reduce((sum, x, i) => sum + x * other[i], 0);
    };
    kept[`grad.${name}`] = [Math.hypot(...data), dot(0), dot(1), dot(2)];
    kept[`entries.${name}`] = Array.from({ length: 8 }, (_, i) => data[Math.floor(i * data.length / 8)]);
  }
  return kept;
}
