/**
 * AdamW with gradient clipping over a parameter arena: one program, prepared once.
 *
 * @module
 */
import { adamw, ADAMW_SETTINGS } from "../../kernels/adamw.ts";
import type { Launch } from "../../kernels/kernel.ts";
import { sum, sumPartials } from "../../kernels/reduce.ts";
import { allocate, readFloats, slice, write } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import { prepare, submit } from "../gpu/run.ts";
import type { Params } from "../model/params.ts";

/** Settings of AdamW, as TRL names them. */
export interface AdamwSettings {
  learningRate: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  weightDecay: number;
  /** Largest gradient norm; 0 for no clipping. */
  maxGradNorm: number;
}

/** What a step did. */
export interface StepResult {
  /** ‖g‖ before clipping. */
  gradNorm: number;
  /** True when the norm was not finite: nothing was changed. */
  skipped: boolean;
}

/** An optimiser. */
export interface Optimizer {
  /** Steps taken so far, skipped ones not counted; part of a checkpoint. */
  steps: number;
  /** Applies the accumulated gradients and clears them. */
  step(settings: AdamwSettings): Promise<StepResult>;
  /** Sets the accumulated gradients to zero without a step. */
  discard(): void;
}

/** An optimiser for trained weights. */
export function openOptimizer(gpu: Gpu, params: Params): Optimizer {
  if (!params.training) throw new Error("These weights are frozen; make them trainable first.");
  const { gradients, moment1, moment2 } = params.training;
  const { count, decayEnd } = params.layout;
  const settings = allocate(gpu, ADAMW_SETTINGS.length * 4, "optimiser settings");
  const norm2 = allocate(gpu, 16, "squared norm");

  // A binding has a largest size, so a large arena is walked in windows.
  const most = Math.floor(gpu.maxBinding / 4 / 64) * 64;
  const windows: { first: number; size: number }[] = [];
  for (let first = 0; first < count; first += most) {
    windows.push({ first, size: Math.min(most, count - first) });
  }
  const windowSums = allocate(gpu, windows.length * gpu.alignment, "squared norms of windows");
  const part = (whole: GpuWindow, { first, size }: { first: number; size: number }) =>
    slice(whole, first * 4, size * 4);

  const launches: Launch<GpuWindow>[] = [];
  windows.forEach((window, i) => {
    const partials = allocate(gpu, sumPartials(window.size) * 4, "partial sums");
    const out = windows.length === 1 ? norm2 : slice(windowSums, i * gpu.alignment, 4);
    launches.push(...sum(gpu.profile, { x: part(gradients, window), partials, out }, window.size, true));
  });
  if (windows.length > 1) {
    const partials = allocate(gpu, sumPartials(windows.length * gpu.alignment / 4) * 4, "partial sums");
    launches.push(
      ...sum(gpu.profile, { x: windowSums, partials, out: norm2 }, windows.length * gpu.alignment / 4),
    );
  }
  for (const window of windows) {
    const buffers = {
      p: part(params.values, window),
      g: part(gradients, window),
      m: part(moment1, window),
      v: part(moment2, window),
      settings,
      norm2,
    };
    const decay = Math.min(window.size, Math.max(0, decayEnd - window.first));
    launches.push(adamw(gpu.profile, buffers, { count: window.size, decayEnd: decay }));
  }
  const program = prepare(gpu, launches);

  return {
    steps: 0,
    async step(s) {
      const t = this.steps + 1;
      write(
        gpu,
        settings,
        new Float32Array([
          s.learningRate / (1 - s.adamBeta1 ** t),
          s.adamBeta2,
          1 - s.adamBeta1,
          1 - s.adamBeta2,
          s.adamEpsilon,
          1 - s.learningRate * s.weightDecay,
          Math.sqrt(1 - s.adamBeta2 ** t),
          s.maxGradNorm,
        ]),
      );
      submit(gpu, program);
      const [squared] = await readFloats(gpu, norm2);
      const skipped = !Number.isFinite(squared);
      if (!skipped) this.steps = t;
      return { gradNorm: Math.sqrt(squared), skipped };
    },
    discard() {
      const encoder = gpu.device.createCommandEncoder();
      encoder.clearBuffer(gradients.buffer, gradients.offset, gradients.size);
      gpu.device.queue.submit([encoder.finish()]);
    },
  };
}
