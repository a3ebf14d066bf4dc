/**
 * Models without memory: of the right shape for recording a tape whose needs are to be known before anything is allocated.
 *
 * @module
 */
import type { GpuWindow } from "../gpu/device.ts";
import { adapterLayout } from "./adapter.ts";
import type { ModelConfig } from "./config.ts";
import type { Model } from "./decoder.ts";
import { type Layout, layoutOf } from "./layout.ts";
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

/** Bytes of an arena of this layout. */
export function arenaBytes(layout: Layout): number {
  return layout.count * 4;
}

/** Bytes of a model's rotary tables. */
export function ropeBytes({ maxPositions, rotaryDims }: ModelConfig): number {
  return maxPositions * rotaryDims * 4;
}
