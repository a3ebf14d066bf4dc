/**
 * Turning launches into commands: uniforms packed into one buffer, bind groups made once, dispatches replayed in one pass.
 *
 * @module
 */
import type { Kernel, Launch } from "../../kernels/kernel.ts";
import { counters } from "./buffers.ts";
import type { Gpu, GpuWindow, Pipeline } from "./device.ts";

/** A dispatch ready to be encoded. */
export interface Dispatch {
  kernel: Kernel;
  pipeline: Pipeline;
  bindGroup: GPUBindGroup;
  grid: [number, number, number];
}

/** A list of dispatches that can be encoded any number of times without an allocation. */
export interface Program {
  dispatches: Dispatch[];
  /** Its commands have been validated once. */
  checked: boolean;
  destroy(): void;
}

/** Compiles `launches`: pipelines, uniforms and bind groups are made here and never again. */
export function prepare(gpu: Gpu, launches: Launch<GpuWindow>[]): Program {
  const step = gpu.alignment;
  const sizeOf = (kernel: Kernel) => Math.ceil(kernel.uniforms.length * 4 / 16) * 16;
  const offsets: number[] = [];
  let total = 0;
  for (const { kernel } of launches) {
    offsets.push(total);
    total += Math.ceil(sizeOf(kernel) / step) * step;
  }
  const words = new ArrayBuffer(Math.max(16, total));
  const view = new DataView(words);
  launches.forEach((launch, i) => writeUniforms(view, offsets[i], launch));
  counters.buffers++;
  const uniforms = gpu.device.createBuffer({
    size: words.byteLength,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  gpu.device.queue.writeBuffer(uniforms, 0, words);

  const dispatches = launches.map((launch, i): Dispatch => {
    const { kernel, buffers, grid } = launch;
    checkGrid(kernel, grid);
    const pipeline = gpu.pipeline(kernel);
    const entries: GPUBindGroupEntry[] = kernel.storage.map((name, binding) => {
      const window = buffers[name];
      if (!window) throw new Error(`Kernel ${kernel.name} was launched without its buffer "${name}".`);
      if (window.size > gpu.maxBinding) {
        throw new Error(
          `Buffer "${name}" of kernel ${kernel.name} has ${window.size} bytes; ${gpu.info.name} binds at most ${gpu.maxBinding}.`,
        );
      }
      return { binding, resource: window };
    });
    if (kernel.uniforms.length) {
      entries.push({
        binding: entries.length,
        resource: { buffer: uniforms, offset: offsets[i], size: sizeOf(kernel) },
      });
    }
    counters.bindGroups++;
    const bindGroup = gpu.guard(
      `the buffers of kernel ${kernel.name}`,
      () => gpu.device.createBindGroup({ label: kernel.name, layout: pipeline.layout, entries }),
    );
    return { kernel, pipeline, bindGroup, grid };
  });
  gpu.check();
  return { dispatches, checked: false, destroy: () => uniforms.destroy() };
}

/** Some dispatches of a program, whose buffers stay the program's. */
export function portion({ dispatches }: Program, from: number, to?: number): Program {
  return { dispatches: dispatches.slice(from, to), checked: false, destroy() {} };
}

function writeUniforms(view: DataView, offset: number, { kernel, uniforms }: Launch<unknown>): void {
  kernel.uniforms.forEach(([name, type], i) => {
    const value = uniforms[name];
    if (value === undefined) {
      throw new Error(`Kernel ${kernel.name} was launched without its uniform "${name}".`);
    }
    if (type === "u32") {
      if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
        throw new Error(`Uniform "${name}" of kernel ${kernel.name} must be a u32; got ${value}.`);
      }
      view.setUint32(offset + 4 * i, value, true);
    } else view.setFloat32(offset + 4 * i, value, true);
  });
}

function checkGrid(kernel: Kernel, grid: [number, number, number]): void {
  if (grid.some((n) => !Number.isInteger(n) || n < 0 || n > 65535)) {
    throw new Error(
      `Kernel ${kernel.name} was launched with the grid ${grid.join("×")}; each side must be 0 to 65,535.`,
    );
  }
}

/** Adds dispatches to an open compute pass. */
export function encode(pass: GPUComputePassEncoder, dispatches: Dispatch[]): void {
  let current: Pipeline | undefined;
  for (const { pipeline, bindGroup, grid } of dispatches) {
    if (pipeline !== current) pass.setPipeline((current = pipeline).pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...grid);
  }
}

/** Runs the program `times` times in one submit. Does not wait. */
export function submit(gpu: Gpu, program: Program, times = 1): void {
  const run = () => {
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let i = 0; i < times; i++) encode(pass, program.dispatches);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
  };
  if (program.checked) run();
  else gpu.guard("a dispatch", run);
  program.checked = true;
  gpu.check();
}

/** Compiles and runs `launches` once: for tests and one-off work. */
export function runOnce(gpu: Gpu, launches: Launch<GpuWindow>[]): void {
  submit(gpu, prepare(gpu, launches));
}
