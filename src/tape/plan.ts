/**
 * A compiled tape: memory, pipelines and bind groups are fixed once, a run writes the inputs, replays the dispatches in one
 * pass and reads the outputs back in one copy.
 *
 * @module
 */
import type { Launch } from "../../kernels/kernel.ts";
import { allocate, clear, slice, write } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import { encode, portion, prepare, type Program, submit } from "../gpu/run.ts";
import { packIntervals } from "./memory.ts";
import { physicalSize, type Tape, type Tensor } from "./tape.ts";

/** Values of a plan's inputs, by name; names that the plan does not use are ignored. */
export type Inputs = Record<string, Float32Array | Uint32Array>;

/** Values of a plan's outputs, by name; rows of a matrix keep their padding. */
export type Outputs = Record<string, Float32Array<ArrayBuffer>>;

/** A compiled tape. */
export interface Plan {
  /** Bytes of activations. */
  bytes: number;
  launches: number;
  /** Writes `inputs`, submits the dispatches `times` times and does not wait. */
  submit(inputs: Inputs, times?: number): void;
  /** Submits, then reads the outputs. */
  run(inputs: Inputs): Promise<Outputs>;
  /** The outputs of the last submission. */
  read(): Promise<Outputs>;
  /** Runs what comes before the backward pass, on all inputs but the derivatives that it starts from, and reads the outputs. */
  forward(inputs: Inputs): Promise<Outputs>;
  /** Writes those derivatives and submits the backward pass. No other plan may run after {@linkcode Plan.forward}. */
  backward(derivatives: Inputs): void;
  /**
   * Runs launch by launch, from activations of zero, and returns the first kernel and tensor with a value that is not
   * finite, if any, and whether an input was to blame.
   */
  findNonFinite(inputs: Inputs): Promise<string | undefined>;
  /** Frees the plan's own buffers. */
  destroy(): void;
}

/** Memory for activations, shared by all plans of a {@linkcode Workspace}: only one plan runs at a time. */
export interface Workspace {
  /** Where plans run. */
  gpu: Gpu;
  /** Made by the first plan, and again by a larger one. */
  arena?: GpuWindow;
  /** The plan whose activations lie in it. */
  holder?: object;
}

/** The tensor that owns the memory of `tensor`, and where in it `tensor` lies, in bytes. */
function owner(tensor: Tensor): { root: Tensor; offset: number } {
  let offset = 0;
  while (tensor.sharedWith) {
    offset += tensor.offset ?? 0;
    tensor = tensor.sharedWith;
  }
  return { root: tensor, offset };
}

/** Where the activations of a tape lie in an arena, in bytes, and the size of the arena. */
function placeActivations(tape: Tape, alignment: number): { places: Map<Tensor, number>; total: number } {
  const { launches } = tape, inputs = new Set(tape.inputs.values());
  // First and last launch of every tensor that lives in the arena.
  const spans = new Map<Tensor, { first: number; last: number }>();
  const touch = (tensor: Tensor, at: number) => {
    const t = owner(tensor).root;
    if (t.window || inputs.has(t)) return;
    const span = spans.get(t);
    if (span) span.last = at;
    else spans.set(t, { first: at, last: at });
  };
  launches.forEach((launch, at) => Object.values(launch.buffers).forEach((t) => touch(t, at)));
  for (const tensor of tape.outputs.values()) touch(tensor, launches.length);

  const tensors = [...spans.keys()];
  const { offsets, total } = packIntervals(
    tensors.map((t) => ({ size: physicalSize(t.shape) * 4, ...spans.get(t)! })),
    alignment,
  );
  return { places: new Map(tensors.map((t, i) => [t, offsets[i]])), total };
}

/** Bytes of activations that a plan of `tape` needs; nothing is allocated. */
export function activationBytes(tape: Tape, alignment: number): number {
  return placeActivations(tape, alignment).total;
}

/** Compiles `tape`. Bind groups are made again only when a later, larger plan has moved the shared arena. */
export function compile(workspace: Workspace, tape: Tape): Plan {
  const { gpu } = workspace;
  const { launches, forward } = tape;
  const used = new Set(launches.flatMap((launch) => Object.values(launch.buffers).map((t) => owner(t).root)));
  const inputs = [...tape.inputs.values()].filter((t) => used.has(t));
  const [late, early] = [true, false].map((is) =>
    inputs.filter((t) => forward.derivatives.includes(t) === is)
  );
  const inputWindows = placeInputs(gpu, inputs);
  const { places, total } = placeActivations(tape, gpu.alignment);

  const windowOf = (tensor: Tensor): GpuWindow => {
    const { root, offset } = owner(tensor);
    const whole = root.window ?? inputWindows.get(root) ??
      slice(workspace.arena!, places.get(root)!, physicalSize(root.shape) * 4);
    return tensor === root ? whole : slice(whole, offset, physicalSize(tensor.shape) * 4);
  };
  const bound = (launch: Launch<Tensor>): Launch<GpuWindow> => ({
    ...launch,
    buffers: Object.fromEntries(Object.entries(launch.buffers).map(([name, t]) => [name, windowOf(t)])),
  });

  let program: (Program & { forward: Program; backward: Program }) | undefined;
  let arena: GpuWindow | undefined;
  const ready = () => {
    if (!workspace.arena || workspace.arena.size < total) {
      workspace.arena?.buffer.destroy();
      workspace.arena = allocate(gpu, Math.max(total, 1 << 16), "activations");
    }
    if (!program || arena !== workspace.arena) {
      program?.destroy();
      arena = workspace.arena;
      const all = prepare(gpu, launches.map(bound));
      program = Object.assign(all, {
        forward: portion(all, 0, forward.launches),
        backward: portion(all, forward.launches),
      });
    }
    return program;
  };
  const fillIn = (values: Inputs, some = inputs) => {
    for (const tensor of some) {
      const value = values[tensor.label];
      const size = tensor.shape.reduce((a, b) => a * b);
      if (!value) throw new Error(`The plan was run without its input "${tensor.label}".`);
      if (value.length !== size) {
        throw new Error(
          `Input "${tensor.label}" has ${value.length} elements; expected ${size} ([${tensor.shape}]).`,
        );
      }
      write(gpu, inputWindows.get(tensor)!, value);
    }
  };
  const read = async (): Promise<Outputs> => {
    const names = [...tape.outputs.keys()];
    if (names.length === 0) return {};
    const parts = await gpu.readback.read(names.map((name) => windowOf(tape.outputs.get(name)!)));
    return Object.fromEntries(names.map((name, i) => [name, new Float32Array(parts[i].buffer)]));
  };

  const plan: Plan = {
    bytes: total,
    launches: launches.length,
    submit(values, times = 1) {
      const ready_ = ready();
      workspace.holder = plan;
      fillIn(values);
      submit(gpu, ready_, times);
    },
    async run(values) {
      this.submit(values);
      return await read();
    },
    read,
    async forward(values) {
      const { forward } = ready();
      workspace.holder = plan;
      fillIn(values, early);
      submit(gpu, forward);
      return await read();
    },
    backward(values) {
      if (workspace.holder !== plan) {
        throw new Error("Another plan has run since the forward pass, whose activations are lost.");
      }
      const { backward } = ready();
      fillIn(values, late);
      submit(gpu, backward);
    },
    async findNonFinite(values) {
      const { dispatches } = ready();
      workspace.holder = plan;
      // What an earlier run left where no kernel writes, in padding and spare partial sums, must not be blamed on this one.
      clear(gpu, arena!);
      fillIn(values);
      for (let i = 0; i < dispatches.length; i++) {
        const encoder = gpu.device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        encode(pass, [dispatches[i]]);
        pass.end();
        gpu.device.queue.submit([encoder.finish()]);
        for (const name of launches[i].kernel.writes) {
          const tensor = launches[i].buffers[name];
          if (tensor.dtype !== "f32") continue;
          const [bytes] = await gpu.readback.read([windowOf(tensor)]);
          if (new Float32Array(bytes.buffer).some((x) => !Number.isFinite(x))) {
            const given = Object.keys(values).find((key) => !values[key].every(Number.isFinite));
            return `${
              launches[i].kernel.name
            } wrote a non-finite value to "${tensor.label}" [${tensor.shape}]` +
              (given === undefined ? "" : `; the input "${given}" had one already`);
          }
        }
      }
      return undefined;
    },
    destroy() {
      program?.destroy();
      program = undefined;
      for (const { buffer } of inputWindows.values()) buffer.destroy();
    },
  };
  return plan;
}

function placeInputs(gpu: Gpu, inputs: Tensor[]): Map<Tensor, GpuWindow> {
  const windows = new Map<Tensor, GpuWindow>();
  if (inputs.length === 0) return windows;
  const sizes = inputs.map((t) => Math.ceil(physicalSize(t.shape) * 4 / gpu.alignment) * gpu.alignment);
  const buffer = allocate(gpu, sizes.reduce((a, b) => a + b), "inputs");
  let offset = 0;
  inputs.forEach((tensor, i) => {
    if (tensor.shape.length === 2 && tensor.shape[1] % 4) {
      throw new Error(`Input "${tensor.label}" needs a multiple of four columns; got ${tensor.shape[1]}.`);
    }
    windows.set(tensor, slice(buffer, offset, physicalSize(tensor.shape) * 4));
    offset += sizes[i];
  });
  return windows;
}
