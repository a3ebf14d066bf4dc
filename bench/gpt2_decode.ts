/** Greedy decoding of a GPT-2 with keel: one prefill, then steps whose tokens and positions stay on the GPU. */
import { cacheFill } from "../kernels/cache_fill.ts";
import type { LayerPlaces } from "../kernels/decode_layer.ts";
import { sampleTokens } from "../kernels/sample.ts";
import { allocate, readWords, write } from "../src/gpu/buffers.ts";
import type { Gpu } from "../src/gpu/device.ts";
import { type Params, slotTensor } from "../src/model/params.ts";
import { attention } from "../src/tape/ops/block.ts";
import { attendCached, type Cache, decodeLayers, decodesInOneLaunch } from "../src/tape/ops/inference.ts";
import { linear } from "../src/tape/ops/linear.ts";
import { gather } from "../src/tape/ops/reduce.ts";
import { compile, type Plan, type Workspace } from "../src/tape/plan.ts";
import { Tape, type Tensor } from "../src/tape/tape.ts";
import { gpt2, uploadGpt2 } from "./gpt2.ts";
import { DECODE, type Gpt2Config, gpt2Prompts } from "./gpt2_data.ts";

const { rows, prompt, generated: most } = DECODE;
const GREEDY = { temperature: 0, topK: 0, topP: 1, stopIds: [] };

/** Where the weights and biases of the layers lie. */
function layerPlaces(params: Params, layers: number): LayerPlaces[] {
  const at = (name: string) => params.layout.slots.get(name)!.offset;
  const places = (h: string, norm: string, matrix: string) => ({
    attnNorm: at(`${h}.ln1.${norm}`),
    qkv: at(`${h}.qkv.${matrix}`),
    out: at(`${h}.o.${matrix}`),
    mlpNorm: at(`${h}.ln2.${norm}`),
    up: at(`${h}.fc.${matrix}`),
    down: at(`${h}.proj.${matrix}`),
  });
  return Array.from({ length: layers }, (_, i) => ({
    weights: places(`h${i}`, "g", "w"),
    biases: places(`h${i}`, "b", "b"),
    ...(i === 0 ? { embedding: { tokens: at("wte"), positions: at("wpe") } } : {}),
    ...(i === layers - 1 ? { head: { norm: at("lnf.g"), normBias: at("lnf.b"), matrix: at("wte") } } : {}),
  }));
}

/** A function that decodes DECODE.generated tokens for every prompt, [rows · generated]. */
export function openGpt2Decoding(gpu: Gpu, config: Gpt2Config): () => Promise<Uint32Array> {
  const workspace: Workspace = { gpu };
  const { width, heads, layers, vocab, inner } = config, headDim = width / heads;
  const params = uploadGpt2(gpu, config);
  const capacity = prompt + most;
  const shape = { rows, capacity, heads, kvHeads: heads, headDim };
  const scores = { scale: 1 / Math.sqrt(headDim) };
  const words = (count: number) => allocate(gpu, count * 4);
  const state = {
    tokens: words(rows),
    positions: words(rows),
    counts: words(rows),
    done: words(rows),
    random: words(2 + rows),
    out: words(rows * most),
    logprobs: words(rows * most),
  };
  const caches = Array.from(
    { length: layers },
    () => [words(rows * capacity * width), words(rows * capacity * width)],
  );
  const cacheOf = (tape: Tape, layer: number): Cache => {
    const [keys, values] = caches[layer].map((w, i) =>
      tape.external(["keys", "values"][i], [rows * capacity * width], w)
    );
    return { keys, values, capacity };
  };
  const draw = (tape: Tape, logits: Tensor) => {
    const external = (name: keyof typeof state) => tape.external(name, [state[name].size / 4], state[name]);
    const buffers = {
      logits,
      tokens: external("tokens"),
      positions: external("positions"),
      counts: external("counts"),
      done: external("done"),
      random: external("random"),
      out: external("out"),
      logprobs: external("logprobs"),
    };
    tape.push(...sampleTokens(tape.profile, buffers, { rows, vocab, most }, GREEDY));
  };

  const prefill = ((): Plan => {
    const tape = new Tape(gpu.profile), tokens = rows * prompt;
    const input = (name: string, count = tokens) => tape.input(name, [count], "u32");
    const starts = input("starts"), ends = input("ends");
    const first = input("first", rows), lengths = input("lengths", rows);
    const hidden = gpt2(tape, config, params, {
      ids: input("ids"),
      positions: input("positions"),
      attend(layer, qkv) {
        const { keys, values } = cacheOf(tape, layer);
        const buffers = { qkv, first, lengths, keys, values };
        tape.push(cacheFill(tape.profile, buffers, { ...shape, maxLength: prompt }));
        return attention(tape, qkv, { starts, ends }, shape, scores);
      },
    });
    draw(tape, linear(tape, gather(tape, hidden, input("last", rows)), slotTensor(tape, params, "wte")));
    return compile(workspace, tape);
  })();

  const decode = ((): Plan => {
    const tape = new Tape(gpu.profile);
    const ids = tape.external("tokens", [rows], state.tokens);
    const positions = tape.external("positions", [rows], state.positions);
    const parameters = tape.external("parameters", [params.layout.count], params.values);
    if (decodesInOneLaunch(tape, 4 * width * width + 2 * width * inner, parameters)) {
      const form = { norm: "layer", eps: 1e-5, activation: "gelu" } as const;
      const size = { width, inner, vocab, heads, kvHeads: heads, headDim };
      const newest = { ids, positions, caches: caches.map((_, i) => cacheOf(tape, i)) };
      draw(tape, decodeLayers(tape, parameters, newest, { ...size, ...form }, layerPlaces(params, layers)));
    } else {
      const hidden = gpt2(tape, config, params, {
        ids,
        positions,
        attend: (layer, qkv) => attendCached(tape, qkv, positions, cacheOf(tape, layer), shape, scores),
      });
      draw(tape, linear(tape, hidden, slotTensor(tape, params, "wte")));
    }
    return compile(workspace, tape);
  })();

  const perToken = (value: (i: number) => number) =>
    Uint32Array.from({ length: rows * prompt }, (_, i) => value(i));
  const perRow = (value: (row: number) => number) =>
    Uint32Array.from({ length: rows }, (_, row) => value(row));
  const inputs = {
    ids: Uint32Array.from(gpt2Prompts(config)),
    positions: perToken((i) => i % prompt),
    starts: perToken((i) => i - i % prompt),
    ends: perToken((i) => i - i % prompt + prompt),
    first: perRow((row) => row * prompt),
    lengths: perRow(() => prompt),
    last: perRow((row) => row * prompt + prompt - 1),
  };
  return async () => {
    write(gpu, state.positions, perRow(() => prompt - 1));
    write(gpu, state.counts, perRow(() => 0));
    write(gpu, state.done, perRow(() => 0));
    prefill.submit(inputs);
    decode.submit({}, most - 1);
    return (await readWords(gpu, state.out)).slice();
  };
}
