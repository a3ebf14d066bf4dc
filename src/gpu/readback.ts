/**
 * Reading GPU memory back.
 *
 * An awaited `mapAsync` costs at least 10 ms in Deno, whatever the GPU: the runtime sleeps between two polls. Its first
 * poll, however, happens inside the call and waits for the queue, so the memory is mapped when `mapAsync` returns. That is
 * an implementation detail: it is tested when the device is opened, and where it does not hold every read is awaited.
 *
 * @module
 */
import type { GpuWindow } from "./device.ts";

/** Copies GPU memory to the host. */
export interface Readback {
  /** True when reads are synchronous and cost microseconds. */
  fast: boolean;
  /** The bytes of each window, in order. One submit, whatever the number of windows. */
  read(windows: GpuWindow[]): Promise<Uint8Array<ArrayBuffer>[]>;
  /** Waits until the queue is idle. */
  wait(): Promise<void>;
}

/** Opens the read-back path of a device and tests it. */
export async function openReadback(device: GPUDevice, check: () => void): Promise<Readback> {
  let staging = stagingBuffer(device, 1 << 16);
  let fast = true;
  let mapped: Promise<unknown> = Promise.resolve();

  /** Reads share the staging buffer, so each waits for the one before. */
  let before: Promise<unknown> = Promise.resolve();
  function read(windows: GpuWindow[]): Promise<Uint8Array<ArrayBuffer>[]> {
    const result = before.then(() => readNow(windows));
    before = result.catch(() => {});
    return result;
  }

  async function readNow(windows: GpuWindow[]): Promise<Uint8Array<ArrayBuffer>[]> {
    const offsets: number[] = [];
    let total = 0;
    for (const { size } of windows) {
      if (size % 4 || size <= 0) {
        throw new Error(`Cannot read ${size} bytes back: the size must be a positive multiple of 4.`);
      }
      offsets.push(total);
      total += size;
    }
    if (total > staging.size) {
      staging.destroy();
      staging = stagingBuffer(device, Math.ceil(total * 1.5 / 256) * 256);
    }
    const encoder = device.createCommandEncoder();
    windows.forEach(({ buffer, offset, size }, i) =>
      encoder.copyBufferToBuffer(buffer, offset, staging, offsets[i], size)
    );
    device.queue.submit([encoder.finish()]);
    mapped = staging.mapAsync(GPUMapMode.READ, 0, staging.size);
    if (fast) mapped.catch(() => {});
    else await mapped;
    check();
    const bytes = new Uint8Array(await range(Math.ceil(total / 8) * 8));
    const parts = windows.map(({ size }, i) => bytes.slice(offsets[i], offsets[i] + size));
    staging.unmap();
    return parts;
  }

  /** The mapped bytes; where mapping failed, an error that says so. */
  async function range(size: number): Promise<ArrayBuffer> {
    try {
      return staging.getMappedRange(0, size);
    } catch (error) {
      const reason = await mapped.then(() => error, (reason) => reason);
      check();
      throw new Error(
        `GPU memory could not be read back (${
          (reason as Error).message
        }). The GPU or the machine may be out of memory.`,
      );
    }
  }

  const probe = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
  for (const value of [7, 1234567, 42]) {
    device.queue.writeBuffer(probe, 0, new Uint32Array([value, value + 1]));
    try {
      const [part] = await read([{ buffer: probe, offset: 0, size: 8 }]);
      const words = new Uint32Array(part.buffer);
      if (words[0] !== value || words[1] !== value + 1) fast = false;
    } catch {
      fast = false;
    }
    if (!fast) {
      await mapped.catch(() => {});
      staging.destroy();
      staging = stagingBuffer(device, 1 << 16);
      break;
    }
  }

  return {
    get fast() {
      return fast;
    },
    read,
    async wait() {
      await read([{ buffer: probe, offset: 0, size: 4 }]);
    },
  };
}

/** A buffer that has been mapped once: `getMappedRange` on one that never was aborts the process in Deno. */
function stagingBuffer(device: GPUDevice, size: number): GPUBuffer {
  const buffer = device.createBuffer({
    size,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    mappedAtCreation: true,
  });
  buffer.unmap();
  return buffer;
}
