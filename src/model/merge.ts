/**
 * Folding an adapter into its base: W + s·B·A, or with weight decomposition m / ‖W + s·B·A‖ · (W + s·B·A), row by row in float64.
 *
 * @module
 */
import { adapterLayout, readAdapterTensors } from "./adapter.ts";
import { loraScale, readAdapterConfig } from "./lora.ts";
import { type ModelFiles, openModel } from "./open.ts";
import { baseOf, configOf, isAdapterDirectory } from "./peft.ts";
import { findTensor, type TensorInfo, type Weights } from "./safetensors.ts";

/** Opens a model's files; those of an adapter with its base's weights changed by it. */
export function openMerged(path: string): ModelFiles {
  if (!isAdapterDirectory(path)) return openModel(path);
  const { config: lora } = readAdapterConfig(path);
  const base = openModel(baseOf(path));
  const config = configOf(path), weights = readAdapterTensors(path, config, lora);
  const transposed = config.family === "gpt2";
  const modules = new Set(
    [...adapterLayout(config, lora).targets.values()].flat().map(({ module }) => module),
  );
  const key = (rest: string) => `base_model.model.${rest}`;
  const tensors = new Map<string, TensorInfo<string>>(base.weights.tensors);
  if (config.architecture === "reward") {
    for (const name of ["lm_head.weight", "embed_out.weight"]) tensors.delete(name);
  }
  for (const [name, info] of weights.tensors) {
    if (!name.includes(".lora_")) tensors.set(name.replace(key(""), ""), info);
  }

  const read = (name: string): Float32Array<ArrayBuffer> => {
    if (weights.tensors.has(key(name))) return weights.read(key(name));
    const module = name.replace(/\.weight$/, "");
    const plain = base.weights.read(name);
    if (module === name || !modules.has(module)) return plain;
    const [rows, cols] = findTensor(path, tensors, name).shape;
    return merged(plain, transposed ? { outputs: cols, inputs: rows } : { outputs: rows, inputs: cols }, {
      a: weights.read(key(`${module}.lora_A.weight`)),
      b: weights.read(key(`${module}.lora_B.weight`)),
      ...(lora.useDora && { magnitude: weights.read(key(`${module}.lora_magnitude_vector`)) }),
      scale: loraScale(lora),
      transposed,
    });
  };
  const { metadata, readIntegers } = base.weights;
  return {
    config,
    weights: { source: path, metadata, tensors: tensors as Weights["tensors"], read, readIntegers },
  };
}

/** A matrix with an adapter folded in; it may be stored [inputs, outputs]. */
function merged(
  weight: Float32Array<ArrayBuffer>,
  { outputs, inputs }: { outputs: number; inputs: number },
  { a, b, magnitude, scale, transposed }: {
    a: Float32Array;
    b: Float32Array;
    magnitude?: Float32Array;
    scale: number;
    transposed: boolean;
  },
): Float32Array<ArrayBuffer> {
  const rank = a.length / inputs, row = new Float64Array(inputs);
  for (let out = 0; out < outputs; out++) {
    const at = (c: number) => transposed ? c * outputs + out : out * inputs + c;
    for (let c = 0; c < inputs; c++) row[c] = weight[at(c)];
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[out * rank + r];
      for (let c = 0; c < inputs; c++) row[c] += factor * a[r * inputs + c];
    }
    let gain = 1;
    if (magnitude) {
      const norm = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
      gain = norm > 0 ? magnitude[out] / norm : 0;
    }
    for (let c = 0; c < inputs; c++) weight[at(c)] = gain * row[c];
  }
  return weight;
}
