/**
 * Every kernel in every variant: what is in this table is compiled by a second WGSL compiler in `lint_test.ts`.
 *
 * One entry per file of `kernels/`. Launches need no memory here, so any name stands for a buffer.
 */
import { activation, activationBackward } from "../../kernels/activation.ts";
import { adamw } from "../../kernels/adamw.ts";
import { attention } from "../../kernels/attention.ts";
import { attentionBackward } from "../../kernels/attention_backward.ts";
import { attentionDecode } from "../../kernels/attention_decode.ts";
import { blend } from "../../kernels/blend.ts";
import { cacheFill } from "../../kernels/cache_fill.ts";
import { columnSums } from "../../kernels/column_sums.ts";
import { decodeLayer } from "../../kernels/decode_layer.ts";
import { magnitudeGradient, rowGains, scaleColumns } from "../../kernels/dora.ts";
import { dropout } from "../../kernels/dropout.ts";
import { elementwise, fill } from "../../kernels/elementwise.ts";
import { embedding, embeddingBackward } from "../../kernels/embedding.ts";
import { headNorm, headNormBackward, headNormGains } from "../../kernels/head_norm.ts";
import type { Launch, Profile } from "../../kernels/kernel.ts";
import {
  argmaxRows,
  klBackward,
  klForward,
  logitStatistics,
  logProbBackward,
  logProbDrawn,
  logProbForward,
} from "../../kernels/log_prob.ts";
import { matmul, type Trans } from "../../kernels/matmul.ts";
import { norm, normBackward } from "../../kernels/norm.ts";
import { gather, scatterAdd, sum } from "../../kernels/reduce.ts";
import { rope } from "../../kernels/rope.ts";
import { rowDot, rowDotBackward } from "../../kernels/row_dot.ts";
import { sampleTokens } from "../../kernels/sample.ts";
import { softCap, softCapBackward } from "../../kernels/soft_cap.ts";
import { type Storage, STORAGES } from "../../kernels/storage.ts";
import { unpack } from "../../kernels/unpack.ts";
import { narrow } from "../../kernels/window.ts";

/** Stands for any set of buffers. */
// deno-lint-ignore no-explicit-any
const any: any = new Proxy({}, { get: (_, name) => name });

/** All combinations of the values of each field. */
function combinations<T>(fields: { [K in keyof T]: T[K][] }): T[] {
  let all: Partial<T>[] = [{}];
  for (const name of Object.keys(fields) as (keyof T)[]) {
    all = all.flatMap((partial) => fields[name].map((value) => ({ ...partial, [name]: value })));
  }
  return all as T[];
}

const HEAD_DIMS = [8, 10, 12, 16, 20, 32, 64, 80, 96, 128, 256];
const STORED = Object.keys(STORAGES) as Storage[];
const VOCABULARIES = [331, 5000];

/** The launches of each kernel file for shapes that reach all of its variants. */
export const catalogue: Record<string, (profile: Profile) => Launch<unknown>[]> = {
  "activation.ts": (profile) =>
    (["swiglu", "geglu", "gelu", "gelu_erf"] as const).flatMap((kind) => [
      activation(profile, kind, any, { rows: 3, cols: 8 }),
      activationBackward(profile, kind, any, { rows: 3, cols: 8 }),
    ]),
  "adamw.ts": (profile) => [adamw(profile, any, { count: 8, decayEnd: 4 })],
  "attention.ts": (profile) =>
    CAPS.flatMap((softCap) =>
      HEAD_DIMS.map((headDim) => attention(profile, any, { ...HEADS, headDim, softCap }))
    ),
  "attention_backward.ts": (profile) =>
    CAPS.flatMap((softCap) =>
      HEAD_DIMS.flatMap((headDim) => attentionBackward(profile, any, { ...HEADS, headDim, softCap }))
    ),
  "attention_decode.ts": (profile) =>
    HEAD_DIMS.flatMap((headDim) =>
      [1, 2, 4].flatMap((kvHeads) =>
        [any, DECODED].flatMap((buffers) =>
          ATTENDING.map((how) => attentionDecode(profile, buffers, { ...CACHE, ...how, kvHeads, headDim }))
        )
      )
    ),
  "blend.ts": (profile) => [blend(profile, any, { count: 8 })],
  "cache_fill.ts": (profile) => [cacheFill(profile, any, { ...CACHE, headDim: 8, maxLength: 5 })],
  "column_sums.ts": (profile) =>
    (["plain", "rows", "product", "rms", "layer"] as const)
      .flatMap((kind) => [3, 3000].flatMap((rows) => columnSums(profile, kind, any, { rows, cols: 8 }))),
  "decode_layer.ts": (profile) =>
    profile.kind === "gpu"
      ? []
      : HEAD_DIMS.flatMap((headDim) =>
        ([["rms", "swiglu"], ["layer", "gelu"]] as const).map(([norm, activation]) => {
          const size = { width: 8, inner: 8, vocab: 9, norm, activation, eps: 1e-5, headDim };
          const llama = activation === "swiglu", weights = any;
          const places = { weights, ...(llama ? {} : { biases: weights }) };
          return decodeLayer(profile, llama ? any : { ...DECODED, weights: 0, work: 0, ids: 0 }, {
            ...CACHE,
            ...size,
          }, places);
        })
      ),
  "dora.ts": (profile) => [
    rowGains(profile, any, { first: 0, count: 3, cols: 8 }),
    ...[false, true].flatMap((add) => [
      scaleColumns(profile, any, { rows: 3, cols: 8 }, add),
      scaleColumns(profile, { z: 0, gain: 0, y: 0 }, { rows: 3, cols: 8 }, add),
    ]),
    magnitudeGradient(profile, any, { first: 0, count: 3 }),
  ],
  "dropout.ts": (profile) =>
    [false, true].map((add) => dropout(profile, any, { rows: 3, cols: 8, rate: 0.5, salt: 1 }, add)),
  "elementwise.ts": (profile) => [
    elementwise(profile, { name: "lint", expression: "a * b", scalars: ["b"] }, { a: 0, b: 0 }, 0, 8),
    fill(profile, 0, 8, 0),
  ],
  "embedding.ts": (profile) => [
    ...[false, true].flatMap((add) =>
      STORED.map((storage) => embedding(profile, any, { tokens: 3, vocab: 5, cols: 256, storage }, add))
    ),
    embeddingBackward(profile, any, { tokens: 3, vocab: 5, cols: 8 }),
  ],
  "head_norm.ts": (profile) => [
    headNorm(profile, any, { ...HEADS, headDim: 8, eps: 1e-6 }),
    headNormBackward(profile, any, { ...HEADS, headDim: 8, eps: 1e-6 }),
    headNormGains(profile, any, { ...HEADS, headDim: 8, eps: 1e-6 }, "keys"),
  ],
  "log_prob.ts": (profile) =>
    VOCABULARIES.flatMap((vocab) =>
      [logProbForward, logProbBackward, klForward, klBackward, logitStatistics, argmaxRows]
        .map((kernel) => kernel(profile, any, { rows: 3, vocab, first: 0, invTemperature: 1 }))
        .concat(logProbDrawn(profile, any, { rows: 3, vocab, most: 4, invTemperature: 1 }))
    ),
  "matmul.ts": (profile) =>
    combinations({
      trans: ["nn", "nt", "tn"] as Trans[],
      m: [1, 9, 17, 32, 1024],
      n: [9, 1024],
      k: [4, 5],
      bias: [undefined, 0],
      residual: [undefined, 0],
      accumulate: [false, true],
      storage: ["F32"] as Storage[],
    }).concat(combinations({
      trans: ["nn", "nt"] as Trans[],
      m: [1, 9, 17, 32, 1024],
      n: [256, 1024],
      k: [256],
      bias: [undefined, 0],
      residual: [undefined, 0],
      accumulate: [false, true],
      storage: STORED,
    })).map(({ bias, residual, ...shape }) => matmul(profile, { a: 0, b: 0, c: 0, bias, residual }, shape)),
  "norm.ts": (profile) =>
    ([["rms", false], ["rms", true], ["layer", false]] as const).flatMap(([kind, plusOne]) => {
      const shape = { kind, plusOne, rows: 3, cols: 8, eps: 1e-5 };
      return [
        norm(profile, any, shape),
        ...[false, true].map((add) => normBackward(profile, any, shape, add)),
      ];
    }),
  "reduce.ts": (profile) => [
    ...[false, true].flatMap((squares) => sum(profile, any, 8, squares)),
    ...[1, 4].flatMap((
      width,
    ) => [gather(profile, any, { count: 3, width }), scatterAdd(profile, any, { count: 3, width })]),
  ],
  "rope.ts": (profile) =>
    [8, 10].map((headDim) =>
      rope(
        profile,
        any,
        { tokens: 3, ld: 64, heads: 2, rotaryDims: headDim, headStride: headDim + headDim % 4 },
        false,
      )
    ),
  "row_dot.ts": (profile) => [
    rowDot(profile, any, { rows: 3, cols: 8 }),
    ...[false, true].map((add) => rowDotBackward(profile, any, { rows: 3, cols: 8 }, add)),
  ],
  "sample.ts": (profile) =>
    [{ temperature: 0, topK: 0, topP: 1 }, { temperature: 1, topK: 0, topP: 1 }, {
      temperature: 1,
      topK: 5,
      topP: 0.9,
    }]
      .flatMap((how) => sampleTokens(profile, any, { rows: 3, vocab: 8, most: 4 }, { ...how, stopIds: [1] })),
  "soft_cap.ts": (profile) => [
    softCap(profile, any, { count: 8, cap: 30 }),
    softCapBackward(profile, any, { count: 8, cap: 30 }),
  ],
  "unpack.ts": (profile) =>
    STORED.map((storage) => unpack(profile, { x: 0, y: 0 }, { rows: 3, cols: 256, storage })),
  "window.ts": (profile) => [narrow(profile, any, { tokens: 3, window: 2 })],
};

const CAPS = [undefined, 50];
/** Forms of decoding attention; the rotated columns are fewer than any head has. */
const ATTENDING = [{}, { window: 5 }, { softCap: 50, rotaryDims: 4 }, {
  window: 5,
  softCap: 50,
  rotaryDims: 8,
}];

const HEADS = { tokens: 70, heads: 4, kvHeads: 2, scale: 0.3 };
/** The buffers of a decoding step without rotation. */
const DECODED = { qkv: 0, positions: 0, keys: 0, values: 0, out: 0 };
const CACHE = { rows: 3, capacity: 8, heads: 4, kvHeads: 2, scale: 0.3 };
