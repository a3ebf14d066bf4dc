/**
 * Generation with a key/value cache: one prefill over the packed prompts, then decoding steps whose tokens, positions and
 * stop flags stay on the GPU. The host looks at the stop flags once every few steps.
 *
 * @module
 */
import { cacheFill } from "../../kernels/cache_fill.ts";
import { padded } from "../../kernels/kernel.ts";
import { sampleTokens, type Sampling } from "../../kernels/sample.ts";
import { bucket, packBatch } from "../data/batches.ts";
import { allocate, write } from "../gpu/buffers.ts";
import type { GpuWindow } from "../gpu/device.ts";
import { decodeStep } from "../model/decode_step.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import type { Cache } from "../tape/ops/inference.ts";
import { logits } from "../tape/ops/head.ts";
import { gather } from "../tape/ops/reduce.ts";
import { compile, type Plan, type Workspace } from "../tape/plan.ts";
import { Tape, type Tensor } from "../tape/tape.ts";

/** How to generate. */
export interface GenerateOptions extends Sampling {
  /** Most tokens of a completion. */
  maxNewTokens: number;
  /** Key of the random numbers; with each row's sample number it determines every draw. */
  seed: number;
  /** Second half of the random key: draws of different streams are unrelated. */
  stream: number;
}

/** A prompt and how many samples of it are wanted; `samples` are their numbers, which key the random numbers. */
export interface Prompt {
  /** Token ids, special tokens included. */
  ids: number[];
  /** Numbers of the wanted samples. */
  samples: number[];
}

/** One sampled continuation. */
export interface Completion {
  /** Tokens drawn, the stop token included. */
  ids: number[];
  /** Log-probability of each under the distribution at this temperature. */
  logprobs: number[];
  /** Whether a stop token ended it, or the limit. */
  finishReason: "stop" | "length";
}

/** Tokens of a row that nobody was told of yet. */
export interface NewTokens {
  /** Place of the row among the completions. */
  row: number;
  /** Tokens drawn. */
  ids: number[];
  /** Their log-probabilities, as in {@linkcode Completion}. */
  logprobs: number[];
}

/** Following a generation while it goes; what is generated does not depend on it. */
export interface Following {
  /**
   * Gets every token once, in its order: at each look at the stop flags, which is every 8 tokens, and at the end. It is waited
   * for. True means that no more is wanted of the rows that are being decoded, at most 256 at a time.
   */
  onTokens?: (tokens: NewTokens[]) => boolean | Promise<boolean>;
  /** Ends the generation at the next look; its reason is thrown. */
  signal?: AbortSignal;
}

/** Generates with one model; caches and plans are kept between calls. */
export interface Generator {
  /** Completions in the order of the prompts and their samples. */
  generate(prompts: Prompt[], options: GenerateOptions, following?: Following): Promise<Completion[]>;
  /** Frees caches and plans; the model stays. */
  close(): void;
}

/** Decoding steps between two looks at the stop flags. */
const STEPS_PER_LOOK = 8;

/** Most rows decoded at once. */
export const MOST_ROWS = 256;

/** Shapes whose caches are kept; the one made first goes when another is needed. */
const MOST_STATES = 4;

type Drawn = Pick<Completion, "ids" | "logprobs">;

interface State {
  rows: number;
  capacity: number;
  most: number;
  keys: GpuWindow[];
  values: GpuWindow[];
  tokens: GpuWindow;
  positions: GpuWindow;
  counts: GpuWindow;
  done: GpuWindow;
  random: GpuWindow;
  out: GpuWindow;
  logprobs: GpuWindow;
  decode: Map<string, Plan>;
  prefill: Map<string, Plan>;
}

/** A generator for `model`. */
export function openGenerator(workspace: Workspace, model: Model): Generator {
  const { gpu } = workspace;
  const { config } = model;
  const states = new Map<string, State>();

  function stateOf(rows: number, capacity: number, most: number): State {
    const key = `${rows} ${capacity} ${most}`;
    let state = states.get(key);
    if (state) return state;
    if (states.size === MOST_STATES) {
      const [oldest, old] = states.entries().next().value!;
      states.delete(oldest);
      destroy(old);
    }
    const cacheBytes = rows * capacity * config.kvHeads * padded(config.headDim) * 4;
    const caches = (label: string) =>
      Array.from({ length: config.layers }, () => allocate(gpu, cacheBytes, label));
    const words = (count: number, label: string) => allocate(gpu, count * 4, label);
    state = {
      rows,
      capacity,
      most,
      keys: caches("key cache"),
      values: caches("value cache"),
      tokens: words(rows, "tokens"),
      positions: words(rows, "positions"),
      counts: words(rows, "counts"),
      done: words(rows, "done"),
      random: words(2 + rows, "random key"),
      out: words(rows * most, "generated tokens"),
      logprobs: words(rows * most, "generated logprobs"),
      decode: new Map(),
      prefill: new Map(),
    };
    states.set(key, state);
    return state;
  }

  /** One token per row from `logits` [rows, vocab]. */
  function draw(tape: Tape, state: State, logits: Tensor, sampling: Sampling): void {
    const { rows, most } = state;
    const at = (name: "tokens" | "positions" | "counts" | "done") => tape.external(name, [rows], state[name]);
    tape.push(
      ...sampleTokens(
        tape.profile,
        {
          logits,
          tokens: at("tokens"),
          positions: at("positions"),
          counts: at("counts"),
          done: at("done"),
          random: tape.external("random", [2 + rows], state.random),
          out: tape.external("out", [rows * most], state.out),
          logprobs: tape.external("logprobs", [rows * most], state.logprobs),
        },
        { rows, vocab: config.vocabSize, most },
        sampling,
      ),
    );
  }

  const cachesOf = (tape: Tape, { rows, capacity, keys, values }: State): Cache[] => {
    const shape = [rows * capacity * config.kvHeads * padded(config.headDim)];
    return keys.map((_, layer) => ({
      keys: tape.external("keys", shape, keys[layer]),
      values: tape.external("values", shape, values[layer]),
      capacity,
    }));
  };

  function prefillPlan(state: State, tokens: number, longest: number, sampling: Sampling): Plan {
    const tape = new Tape(gpu.profile);
    const { rows } = state, { heads, kvHeads, headDim } = config;
    const index = (name: string) => tape.input(name, [rows], "u32");
    const first = index("first"), lengths = index("lengths"), caches = cachesOf(tape, state);
    const hidden = decoder(tape, model, batchInputs(tape, tokens), {
      frozen: true,
      onKeys(layer, qkv) {
        const { keys, values, capacity } = caches[layer];
        const shape = { rows, maxLength: longest, capacity, heads, kvHeads, headDim };
        tape.push(cacheFill(tape.profile, { qkv, first, lengths, keys, values }, shape));
      },
    });
    const last = gather(tape, hidden, index("last")); // [rows, width]
    draw(tape, state, logits(tape, last, headOf(tape, model, true)).logits, sampling);
    return compile(workspace, tape);
  }

  function decodePlan(state: State, sampling: Sampling): Plan {
    const tape = new Tape(gpu.profile);
    const ids = tape.external("tokens", [state.rows], state.tokens);
    const positions = tape.external("positions", [state.rows], state.positions);
    const logits = decodeStep(tape, model, { ids, positions, caches: cachesOf(tape, state) }); // [rows, vocab]
    draw(tape, state, logits, sampling);
    return compile(workspace, tape);
  }

  /** The rows of one group, whose first is row `base` of all. */
  async function generateRows(
    prompts: Prompt[],
    options: GenerateOptions,
    base: number,
    { onTokens, signal }: Following,
  ): Promise<Completion[]> {
    const { maxNewTokens: most, seed, stream } = options;
    const samples = prompts.flatMap((prompt) => prompt.samples);
    const rowPrompt = prompts.flatMap((prompt, i) => prompt.samples.map(() => i));
    const longest = Math.max(...prompts.map((prompt) => prompt.ids.length));
    if (longest + most > config.maxPositions) {
      throw new Error(
        `A prompt of ${longest} tokens with ${most} new ones is longer than the model's ${config.maxPositions} positions. Use shorter prompts or fewer new tokens.`,
      );
    }
    const rows = cachedRows(samples.length);
    const capacity = Math.ceil((longest + most) / 32) * 32;
    const state = stateOf(rows, capacity, most);
    const packed = packBatch(prompts.map((prompt) => prompt.ids), bucket);

    const perRow = (value: (row: number) => number, filler: number) =>
      Uint32Array.from({ length: rows }, (_, row) => row < samples.length ? value(row) : filler);
    const lengths = perRow((row) => prompts[rowPrompt[row]].ids.length, 1);
    const first = perRow((row) => packed.first[rowPrompt[row]], 0);
    write(gpu, state.positions, lengths.map((n) => n - 1));
    write(gpu, state.counts, new Uint32Array(rows));
    write(gpu, state.done, perRow(() => 0, 1));
    write(
      gpu,
      state.random,
      new Uint32Array([seed >>> 0, stream >>> 0, ...perRow((row) => samples[row], 0)]),
    );

    const sampling = samplingKey(options);
    const longestBucket = Math.ceil(longest / 32) * 32;
    const prefillKey = `${packed.tokens} ${longestBucket} ${sampling}`;
    let prefill = state.prefill.get(prefillKey);
    if (!prefill) {
      prefill = prefillPlan(state, packed.tokens, Math.min(longestBucket, capacity), options);
      state.prefill.set(prefillKey, prefill);
    }
    prefill.submit({
      ids: packed.ids,
      positions: packed.positions,
      starts: packed.starts,
      ends: packed.ends,
      first,
      lengths,
      last: first.map((start, row) => start + lengths[row] - 1),
    });

    let decode = state.decode.get(sampling);
    if (!decode) state.decode.set(sampling, decode = decodePlan(state, options));
    const told = samples.map(() => 0);
    const tell = async (drawn: Drawn[]): Promise<boolean> => {
      const fresh = drawn.flatMap(({ ids, logprobs }, row) => {
        const from = told[row];
        told[row] = ids.length;
        return from === ids.length
          ? []
          : [{ row: base + row, ids: ids.slice(from), logprobs: logprobs.slice(from) }];
      });
      return fresh.length > 0 && await onTokens!(fresh);
    };
    for (let drawn = 1; drawn < most; drawn += STEPS_PER_LOOK) {
      decode.submit({}, Math.min(STEPS_PER_LOOK, most - drawn));
      // What only a listener wants is read with the flags: a second read-back would wait as long as the first.
      const [done, ...parts] = await gpu.readback.read([state.done, ...onTokens ? drawnOf(state) : []]);
      signal?.throwIfAborted();
      if (onTokens && await tell(rowsOf(parts, samples.length, most))) break;
      if (new Uint32Array(done.buffer).subarray(0, rows).every((flag) => flag !== 0)) break;
    }

    const drawn = rowsOf(await gpu.readback.read(drawnOf(state)), samples.length, most);
    if (onTokens) await tell(drawn);
    return drawn.map(({ ids, logprobs }) => ({
      ids,
      logprobs,
      finishReason: options.stopIds.includes(ids[ids.length - 1]) ? "stop" : "length",
    }));
  }

  return {
    async generate(prompts, options, following = {}) {
      const out: Completion[] = [];
      for (const group of groups(prompts)) {
        out.push(...await generateRows(group, options, out.length, following));
      }
      return out;
    },
    close() {
      for (const state of states.values()) destroy(state);
      states.clear();
    },
  };
}

/** Rows that are decoded for so many samples, the last of them idle: few counts, so that few plans exist. */
export function cachedRows(samples: number): number {
  return samples === 1 ? 1 : samples <= 4 ? 4 : Math.ceil(samples / 8) * 8;
}

/** What is read of the drawn tokens. */
const drawnOf = ({ counts, out, logprobs }: State) => [counts, out, logprobs];

/** The first `rows` rows of what was read, of at most `most` tokens each. */
function rowsOf(parts: Uint8Array<ArrayBuffer>[], rows: number, most: number): Drawn[] {
  const [counts, ids] = parts.map(({ buffer }) => new Uint32Array(buffer));
  const logprobs = new Float32Array(parts[2].buffer);
  return Array.from({ length: rows }, (_, row) => {
    const range = [row * most, row * most + counts[row]] as const;
    return { ids: Array.from(ids.subarray(...range)), logprobs: Array.from(logprobs.subarray(...range)) };
  });
}

function destroy(state: State): void {
  const { keys, values, tokens, positions, counts, done, random, out, logprobs } = state;
  for (
    const { buffer } of [...keys, ...values, tokens, positions, counts, done, random, out, logprobs]
  ) {
    buffer.destroy();
  }
  for (const plan of [...state.decode.values(), ...state.prefill.values()]) plan.destroy();
}

function samplingKey({ temperature, topK, topP, stopIds }: Sampling): string {
  return [temperature, topK, topP, ...stopIds].join(" ");
}

/** Splits prompts into groups of at most MOST_ROWS samples, in order. */
function groups(prompts: Prompt[]): Prompt[][] {
  const out: Prompt[][] = [];
  let rows = MOST_ROWS;
  for (const prompt of prompts) {
    for (let at = 0; at < prompt.samples.length;) {
      if (rows >= MOST_ROWS) {
        out.push([]);
        rows = 0;
      }
      const part = prompt.samples.slice(at, at + MOST_ROWS - rows);
      out[out.length - 1].push({ ids: prompt.ids, samples: part });
      rows += part.length;
      at += part.length;
    }
  }
  return out;
}
