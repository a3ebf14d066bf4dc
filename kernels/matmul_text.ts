/**
 * What the matmul kernels of both profiles share: bindings, names and the stores.
 *
 * All matrices are bound as vec4f, so sizes in uniforms are in vec4s ("quads") except m, n and k.
 *
 * @module
 */
import type { KernelSpec } from "./kernel.ts";
import type { MatmulVariant } from "./matmul.ts";
import { loadStored } from "./storage.ts";

/** The name, bindings and uniforms of a matmul kernel. */
export function matmulInterface(
  variant: MatmulVariant,
): Pick<KernelSpec, "storage" | "writes" | "uniforms"> & { module: string } {
  return {
    module: variant.storage === "F32" ? "" : loadStored(variant.storage, "b"),
    storage: {
      a: "vec4f",
      b: variant.storage === "F32" ? "vec4f" : "u32",
      c: "vec4f",
      ...(variant.bias ? { bias: "vec4f" } : {}),
      ...(variant.residual ? { residual: "vec4f" } : {}),
    },
    writes: ["c"],
    uniforms: {
      m: "u32",
      n: "u32",
      k: "u32",
      lda: "u32",
      ldb: "u32",
      ldc: "u32",
      strideA: "u32",
      strideB: "u32",
      strideC: "u32",
      offsetA: "u32",
      offsetB: "u32",
      offsetC: "u32",
      offsetBias: "u32",
      scale: "f32",
    },
  };
}

/** `nt_tail_bias_residual_add`, for the kernel's name. */
export function variantName({ trans, tail, bias, residual, accumulate, storage }: MatmulVariant): string {
  return [
    trans,
    storage !== "F32" && storage,
    tail && "tail",
    bias && "bias",
    residual && "residual",
    accumulate && "add",
  ]
    .filter(Boolean).join("_");
}

/** Statements that must run once before {@linkcode storeQuad} for the column quad `quad`; they define names ending in `id`. */
export function prepareStore(variant: MatmulVariant, quad: string, id = ""): string {
  return `let inside${id} = ${quad} * 4u < u.n;
  let keep${id} = vec4u(${quad} * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(u.n);
  ${variant.bias ? `let shift${id} = bias[u.offsetBias + ${quad}];` : ""}`;
}

/** Statement that stores `value` (vec4f) at `row` and column quad `quad` of C, which must exist; padding columns become zero. */
export function storeQuad(variant: MatmulVariant, row: string, quad: string, value: string, id = ""): string {
  const terms = [`u.scale * ${value}`];
  if (variant.bias) terms.push(`shift${id}`);
  if (variant.residual) terms.push("residual[at]");
  if (variant.accumulate) terms.push("c[at]");
  return `{ let at = u.offsetC + group.z * u.strideC + (${row}) * u.ldc + ${quad}; ` +
    `c[at] = select(vec4f(), ${terms.join(" + ")}, keep${id}); }`;
}
