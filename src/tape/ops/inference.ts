/**
 * Operations without a gradient, for decoding with a cache.
 *
 * @module
 */
import { type Attending, attentionDecode } from "../../../kernels/attention_decode.ts";
import { decodeLayer, type LayerPlaces, type LayerShape, layerWork } from "../../../kernels/decode_layer.ts";
import { padded } from "../../../kernels/kernel.ts";
import type { Tape, Tensor } from "../tape.ts";
import type { Heads } from "./block.ts";

/** Keys and values of every row's tokens so far, [rows · capacity · kvHeads · padded(headDim)] each. */
export interface Cache {
  keys: Tensor;
  values: Tensor;
  /** Tokens that a row may have. */
  capacity: number;
}

/** The newest token of each row: ids and positions [rows], and a cache per layer. */
export interface Newest {
  ids: Tensor;
  positions: Tensor;
  caches: Cache[];
}

/** Cosines and sines by position, [positions · headDim/2] each. */
export interface RotaryTables {
  cos: Tensor;
  sin: Tensor;
}

/**
 * Attention of one new token per row, at `positions`, over the cache and itself; its key and value enter the cache. With the
 * rotary tables, queries and keys are rotated first, their first `rotaryDims` columns. Output [rows, heads·padded(headDim)].
 */
export function attendCached(
  tape: Tape,
  qkv: Tensor,
  positions: Tensor,
  { keys, values, capacity }: Cache,
  { heads, kvHeads, headDim }: Heads,
  attending: Attending,
  tables?: RotaryTables,
): Tensor {
  const [rows] = positions.shape;
  const out = tape.tensor("attention", [rows, heads * padded(headDim)]);
  const shape = { rows, capacity, heads, kvHeads, headDim, ...attending };
  tape.push(attentionDecode(tape.profile, { qkv, positions, keys, values, out, ...tables }, shape));
  return out;
}

/** Floats of a layer's weights up to which one launch wins: beyond, its coarser work costs more than launches do. */
const SMALL_LAYER = 1 << 18;

/** Bytes of the parameters that every device can bind at once. */
const MOST_BOUND = 1 << 27;

/** Whether a layer for one token per row is best done in one launch. */
export function decodesInOneLaunch(tape: Tape, layerWeights: number, parameters: Tensor): boolean {
  return tape.profile.kind === "cpu" && layerWeights <= SMALL_LAYER && parameters.shape[0] * 4 <= MOST_BOUND;
}

/**
 * Logits [rows, vocab] after one token per row, in one launch per layer: `places` says where in `parameters` the weights of each
 * lie, those of the first layer with the embedding, those of the last with the head.
 */
export function decodeLayers(
  tape: Tape,
  parameters: Tensor,
  { ids, positions, caches }: Newest,
  shape: Omit<LayerShape, "rows" | "capacity" | "scale">,
  places: LayerPlaces[],
  tables?: RotaryTables,
): Tensor {
  const [rows] = positions.shape, scale = 1 / Math.sqrt(shape.headDim);
  const { size, logits } = layerWork(tape.profile, { rows, ...shape });
  const work = tape.tensor("layer", [size]);
  caches.forEach(({ keys, values, capacity }, layer) => {
    const buffers = { weights: parameters, work, ids, positions, keys, values, ...tables };
    tape.push(decodeLayer(tape.profile, buffers, { ...shape, rows, capacity, scale }, places[layer]));
  });
  return tape.tensor("logits", [rows, shape.vocab], { sharedWith: work, offset: logits * 4 });
}
