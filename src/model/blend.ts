/**
 * A second set of a model's trained weights that follows the first: an exponential moving average, or a reference that is moved
 * towards the policy (TR-DPO, arXiv 2404.09656).
 *
 * @module
 */
import { blend } from "../../kernels/blend.ts";
import { allocate, slice, write } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { prepare, submit } from "../gpu/run.ts";
import type { Model } from "./decoder.ts";
import { cloneParams, type Params } from "./params.ts";

/** The weights of a model that are trained: an adapter's where there is one. */
export function trainedParams({ adapter, params }: Model): Params {
  return adapter ? adapter.params : params;
}

/** The same model with its trained weights, frozen, in memory of their own. */
export function frozenCopy(gpu: Gpu, model: Model): Model {
  const params = cloneParams(gpu, trainedParams(model));
  return model.adapter ? { ...model, adapter: { ...model.adapter, params } } : { ...model, params };
}

/** What moves a {@linkcode frozenCopy} towards `model`: follower ← follower + share · (model − follower). */
export function follow(gpu: Gpu, follower: Model, model: Model): (share: number) => void {
  const to = trainedParams(follower), from = trainedParams(model);
  const bytes = to.layout.count * 4, most = Math.floor(gpu.maxBinding / 256) * 256;
  if (from.layout.count !== to.layout.count) {
    throw new Error("Only weights of one layout can be moved towards each other.");
  }
  const share = allocate(gpu, 16, "share");
  const launches = Array.from({ length: Math.ceil(bytes / most) }, (_, i) => {
    const size = Math.min(most, bytes - i * most);
    const part = (params: Params) => slice(params.values, i * most, size);
    return blend(gpu.profile, { x: part(from), y: part(to), share }, { count: size / 4 });
  });
  const program = prepare(gpu, launches);
  return (amount) => {
    write(gpu, share, Float32Array.of(amount));
    submit(gpu, program);
  };
}
