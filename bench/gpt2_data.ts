/**
 * Two small GPT-2s with weights and a batch from a counter hash, so that every library starts from the same numbers without
 * a file. `peers/torch_step.py` holds the same generator.
 */

/** Sizes of a decoder in GPT-2's form: LayerNorm, learned positions, biases, tanh GELU, output head tied to the embedding. */
export interface Gpt2Config {
  name: string;
  layers: number;
  width: number;
  heads: number;
  inner: number;
  vocab: number;
  /** Rows and tokens per row of the training batch. */
  rows: number;
  time: number;
  /** Standard deviation of the token embedding. */
  spread: number;
  /** Factor of the matrices' standard deviation. */
  gain: number;
  learningRate: number;
}

const SMALL = { layers: 4, width: 64, heads: 4, inner: 256, vocab: 512, rows: 8, time: 96, spread: 0.1 };

export const CONFIGS: Record<"A" | "B" | "D", Gpt2Config> = {
  A: { name: "A", ...SMALL, gain: 1, learningRate: 1e-3 },
  B: {
    name: "B",
    layers: 6,
    width: 384,
    heads: 6,
    inner: 1536,
    vocab: 4096,
    rows: 8,
    time: 128,
    spread: 0.05,
    gain: 1,
    learningRate: 3e-4,
  },
  // A for decoding: with larger matrices a row does not just repeat its last token.
  D: { name: "D", ...SMALL, gain: 3, learningRate: 1e-3 },
};

/** AdamW of every library; the decay is decoupled and on every parameter. */
export const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1 };

/** Greedy decoding: rows, tokens of each prompt, tokens generated. */
export const DECODE = { rows: 32, prompt: 16, generated: 32 };

/** Multiply-adds of a training step times two, as counted in papers: 6 per weight and token, and attention's squares. */
export function floatingPointOperations({ layers, width, inner, vocab, rows, time }: Gpt2Config): number {
  const weights = layers * (4 * width * width + 2 * width * inner) + vocab * width;
  return (6 * weights + 12 * layers * width * time) * rows * time;
}

/** A weight: matrices are [in, out], as in GPT-2. */
export interface Gpt2Weight {
  shape: number[];
  data: Float32Array;
}

/** Name, shape, standard deviation and mean of every weight, in the order in which the counter runs. */
function specifications(c: Gpt2Config): [string, number[], number, number][] {
  const matrix = (inputs: number, scale = 1) => 0.7 * c.gain * scale / Math.sqrt(inputs);
  const residual = 1 / Math.sqrt(2 * c.layers);
  const out: [string, number[], number, number][] = [
    ["wte", [c.vocab, c.width], c.spread, 0],
    ["wpe", [c.time, c.width], c.spread / 2, 0],
  ];
  const norm = (name: string) =>
    out.push([`${name}.g`, [c.width], 0.02, 1], [`${name}.b`, [c.width], 0.02, 0]);
  const map = (name: string, inputs: number, outputs: number, scale?: number) =>
    out.push([`${name}.w`, [inputs, outputs], matrix(inputs, scale), 0], [`${name}.b`, [outputs], 0.02, 0]);
  for (let layer = 0; layer < c.layers; layer++) {
    norm(`h${layer}.ln1`);
    map(`h${layer}.qkv`, c.width, 3 * c.width);
    map(`h${layer}.o`, c.width, c.width, residual);
    norm(`h${layer}.ln2`);
    map(`h${layer}.fc`, c.width, c.inner);
    map(`h${layer}.proj`, c.inner, c.width, residual);
  }
  norm("lnf");
  return out;
}

/** The finaliser of splitmix32 on a counter. */
function hash(counter: number): number {
  let x = (counter + 0x9e3779b9) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97) >>> 0;
  return (x ^ (x >>> 15)) >>> 0;
}

/** All weights, uniform, by name. */
export function gpt2Weights(config: Gpt2Config): Map<string, Gpt2Weight> {
  const out = new Map<string, Gpt2Weight>();
  let counter = 0;
  for (const [name, shape, deviation, mean] of specifications(config)) {
    const data = new Float32Array(shape.reduce((a, b) => a * b)), half = deviation * Math.sqrt(3);
    for (let i = 0; i < data.length; i++) data[i] = mean + ((hash(counter++) >>> 8) / 2 ** 24 * 2 - 1) * half;
    out.set(name, { shape, data });
  }
  return out;
}

/** The batch: ids and the tokens that follow them, [rows · time] each. */
export function gpt2Batch({ rows, time, vocab }: Gpt2Config): { ids: Int32Array; next: Int32Array } {
  const token = (i: number, shift: number) =>
    hash(0x40000000 + Math.floor(i / time) * (time + 1) + i % time + shift) % vocab;
  const all = (shift: number) => Int32Array.from({ length: rows * time }, (_, i) => token(i, shift));
  return { ids: all(0), next: all(1) };
}

/** Prompts to decode from, [DECODE.rows · DECODE.prompt]. */
export function gpt2Prompts({ vocab }: Gpt2Config): Int32Array {
  return Int32Array.from({ length: DECODE.rows * DECODE.prompt }, (_, i) => hash(0x50000000 + i) % vocab);
}

/** ‖values‖. */
export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum);
}
