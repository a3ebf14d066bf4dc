/**
 * Models without memory: of the right shape for recording a tape whose needs are to be known before anything is allocated.
 *
 * @module
 */
import { STORAGES, storedWords } from "../../kernels/storage.ts";
import type { GpuWindow } from "../gpu/device.ts";
import { adapterLayout } from "./adapter.ts";
import type { ModelConfig } from "./config.ts";
import type { Model } from "./decoder.ts";
import type { Dtype } from "./frozen.ts";
import { type Layout, layoutOf, slotFloats } from "./layout.ts";
import type { LoraConfig } from "./lora.ts";
import type { Params } from "./params.ts";

/** A window of no buffer. */
const nowhere = (bytes: number): GpuWindow => ({
  buffer: undefined as unknown as GPUBuffer,
  offset: 0,
  size: bytes,
});

function sketchParams(layout: Layout, trained: boolean): Params {
  const arena = () => nowhere(layout.count * 4);
  return {
    layout,
    values: arena(),
    maxBinding: Infinity,
    ...(trained && { training: { gradients: arena(), moment1: arena(), moment2: arena() } }),
  };
}

/** A model of that config, trained whole, through an adapter, or not at all. */
export function sketchModel(
  config: ModelConfig,
  { trained = false, lora }: { trained?: boolean; lora?: LoraConfig } = {},
): Model {
  const rope = {
    cos: nowhere(config.maxPositions * config.rotaryDims * 2),
    sin: nowhere(config.maxPositions * config.rotaryDims * 2),
  };
  const params = sketchParams(layoutOf(config), trained && !lora);
  if (!lora) return { config, params, rope };
  const { layout, targets } = adapterLayout(config, lora);
  return {
    config,
    params,
    rope,
    adapter: { config: lora, params: sketchParams(layout, trained), targets, base: "" },
  };
}

/** Bytes of a model's weights when they are held in a form; `storedBits` says how many bits a number has where it is stored. */
export function weightBytes(config: ModelConfig, dtype: Dtype, storedBits = 32): number {
  let bytes = 0;
  for (const slot of layoutOf(config).slots.values()) {
    const isMatrix = slot.shape.length === 2;
    const form = dtype === "f16" ? "F16" : dtype === "bf16" ? "BF16" : dtype === "q8_0" ? "Q8_0" : "F32";
    const fits = isMatrix && slot.shape[1] % STORAGES[form].elements === 0;
    if (dtype === "as-stored" && isMatrix) bytes += slot.shape[0] * slot.shape[1] * storedBits / 8;
    else if (form === "F32" || !fits) bytes += slotFloats(slot) * 4;
    else bytes += storedWords(form, slot.shape[0], slot.shape[1]) * 4;
  }
  return bytes;
}

/** Bytes of an arena of this layout. */
export function arenaBytes(layout: Layout): number {
  return layout.count * 4;
}
