/**
 * Gradients of `attention` (arXiv 2205.14135, appendix B): the weights are computed again from `lse`, never stored.
 *
 *   p = exp(scale · q kᵀ − lse)     delta = Σ_d dout · out     w = p · (dout vᵀ − delta)
 *   dq = scale · w k                dk = scale · wᵀ q          dv = pᵀ dout
 *
 * Under a soft cap, p is made of the capped scores c, and w is multiplied with their slope, 1 − (c / cap)².
 *
 * Reads qkv, starts, out, lse as in `attention.ts`, `ends` [tokens] u32 (key j is seen by the queries j ≤ i < ends[j], the
 * same relation as `starts` gives; never decreasing) and dout [tokens, heads·ds]. Overwrites `delta` [heads, tokens] and all of
 * `dqkv` [tokens, (heads + 2·kvHeads)·ds], padding columns with zero. Sums run over keys, or over query heads and then
 * queries, in increasing order.
 *
 * @module
 */
import { dkvCpu, dkvTile, dqCpu, dqTile } from "./attention_backward_cpu.ts";
import { dkvGpu, dqGpu } from "./attention_backward_gpu.ts";
import {
  type AttentionShape,
  attentionUniforms,
  attentionUniformValues,
  GPU_THREADS,
} from "./attention_text.ts";
import { cachedKernel, type KernelSpec, type Launch, type Profile } from "./kernel.ts";
import { CAPPED_SCORE } from "./soft_cap.ts";

type Text = Pick<KernelSpec, "needs" | "workgroup" | "module" | "body">;

/** dqkv = gradient of the loss by qkv. The first launch also makes `delta`. */
export function attentionBackward<B>(
  profile: Profile,
  buffers: { qkv: B; starts: B; ends: B; out: B; lse: B; dout: B; delta: B; dqkv: B },
  shape: AttentionShape,
): Launch<B>[] {
  const { qkv, starts, ends, out, lse, dout, delta, dqkv } = buffers;
  const { tokens, heads, kvHeads, headDim } = shape;
  const cpu = profile.kind === "cpu", { lanes } = profile;
  const matrix = cpu ? "quad" : "vec4f";
  const cap = shape.softCap !== undefined;
  const suffix = `${cpu ? `cpu${lanes}` : "gpu"}_${headDim}${cap ? "_capped" : ""}`;
  const kernelUniforms = attentionUniforms(cap);
  const withCap = (text: Text): Text =>
    cap ? { ...text, module: `${text.module ?? ""}\n${CAPPED_SCORE}` } : text;
  const dq = cachedKernel(`attention_dq_${suffix}`, () => ({
    storage: {
      qkv: matrix,
      starts: "u32",
      out: "vec4f",
      lse: "f32",
      dout: matrix,
      delta: "f32",
      dqkv: "vec4f",
    },
    writes: ["delta", "dqkv"],
    uniforms: kernelUniforms,
    ...withCap(cpu ? dqCpu(lanes, headDim, cap) : dqGpu(headDim, cap)),
  }));
  const dkv = cachedKernel(`attention_dkv_${suffix}`, () => ({
    storage: { qkv: matrix, ends: "u32", lse: "f32", dout: matrix, delta: "f32", dqkv: "vec4f" },
    writes: ["dqkv"],
    uniforms: kernelUniforms,
    ...withCap(cpu ? dkvCpu(lanes, headDim, cap) : dkvGpu(headDim, cap)),
  }));
  const queries = cpu ? dqTile(headDim).own * lanes : GPU_THREADS;
  const keys = cpu ? dkvTile(headDim).own * lanes : GPU_THREADS;
  const uniforms = attentionUniformValues(shape);
  return [
    {
      kernel: dq,
      buffers: { qkv, starts, out, lse, dout, delta, dqkv },
      uniforms,
      grid: [Math.ceil(tokens / queries), heads, 1],
    },
    {
      kernel: dkv,
      buffers: { qkv, ends, lse, dout, delta, dqkv },
      uniforms,
      grid: [Math.ceil(tokens / keys), kvHeads, 1],
    },
  ];
}
