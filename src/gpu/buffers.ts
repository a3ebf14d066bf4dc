/**
 * Allocating, filling and reading GPU memory, with the argument checks that Deno leaves to a process abort.
 *
 * @module
 */
import type { Gpu, GpuWindow } from "./device.ts";

const USAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;

/** Buffers allocated since the process started; a test holds that a steady-state step allocates none. */
export const counters: { buffers: number; bindGroups: number } = { buffers: 0, bindGroups: 0 };

/** A zero-filled storage buffer of at least `bytes` bytes. */
export function allocate(gpu: Gpu, bytes: number, label?: string): GpuWindow {
  const size = Math.max(16, Math.ceil(bytes / 16) * 16);
  if (size > gpu.device.limits.maxBufferSize) {
    throw new Error(
      `${
        label ?? "A buffer"
      } needs ${size} bytes; ${gpu.info.name} allows ${gpu.device.limits.maxBufferSize} in one buffer. Use a smaller batch or model.`,
    );
  }
  counters.buffers++;
  const buffer = gpu.device.createBuffer({ size, usage: USAGE, label });
  gpu.check();
  return { buffer, offset: 0, size };
}

/** A new buffer that holds `data`. */
export function upload(gpu: Gpu, data: Float32Array | Uint32Array | Int32Array, label?: string): GpuWindow {
  const window = allocate(gpu, data.byteLength, label);
  write(gpu, window, data);
  return window;
}

/** Writes `data` at the start of `window`. */
export function write(gpu: Gpu, window: GpuWindow, data: Float32Array | Uint32Array | Int32Array): void {
  if (data.byteLength > window.size) {
    throw new Error(`Cannot write ${data.byteLength} bytes to a window of ${window.size} bytes.`);
  }
  if (data.byteLength === 0) return;
  gpu.device.queue.writeBuffer(
    window.buffer,
    window.offset,
    data as BufferSource as Float32Array<ArrayBuffer>,
  );
}

/**
 * Hands over what was written, so that the driver's copies of it can go. In Deno the call itself waits for the queue; its promise
 * is of no use.
 */
export function flush(gpu: Gpu): void {
  gpu.device.queue.submit([]);
  gpu.device.queue.onSubmittedWorkDone().catch(() => {});
}

/** Sets every byte of `window` to zero. */
export function clear(gpu: Gpu, window: GpuWindow): void {
  const encoder = gpu.device.createCommandEncoder();
  encoder.clearBuffer(window.buffer, window.offset, window.size);
  gpu.device.queue.submit([encoder.finish()]);
}

/** Copies one window to another of at least the same size. */
export function copy(gpu: Gpu, from: GpuWindow, to: GpuWindow): void {
  const encoder = gpu.device.createCommandEncoder();
  encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, Math.min(from.size, to.size));
  gpu.device.queue.submit([encoder.finish()]);
}

/** Reads `window` as f32. */
export async function readFloats(gpu: Gpu, window: GpuWindow): Promise<Float32Array<ArrayBuffer>> {
  const [bytes] = await gpu.readback.read([window]);
  return new Float32Array(bytes.buffer);
}

/** Reads `window` as u32. */
export async function readWords(gpu: Gpu, window: GpuWindow): Promise<Uint32Array<ArrayBuffer>> {
  const [bytes] = await gpu.readback.read([window]);
  return new Uint32Array(bytes.buffer);
}

/** The part of `window` that starts `offset` bytes in. */
export function slice(window: GpuWindow, offset: number, size: number = window.size - offset): GpuWindow {
  if (offset < 0 || size < 0 || offset + size > window.size) {
    throw new Error(`Window ${offset}+${size} lies outside its ${window.size} bytes.`);
  }
  return { buffer: window.buffer, offset: window.offset + offset, size };
}
