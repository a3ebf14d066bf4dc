/**
 * The GPU: adapter, device, pipelines, errors.
 *
 * WebGPU in Deno swallows validation errors when nobody listens and loses a device without a word, so everything here
 * turns them into exceptions that name the kernel.
 *
 * @module
 */
import type { Kernel, Profile } from "../../kernels/kernel.ts";
import { tunedTiles } from "./autotune.ts";
import { openReadback, type Readback } from "./readback.ts";

/** A piece of a GPU buffer. `offset` and `size` are in bytes. */
export interface GpuWindow {
  /** The whole buffer. */
  buffer: GPUBuffer;
  /** First byte. */
  offset: number;
  /** Bytes. */
  size: number;
}

/** A compiled kernel. */
export interface Pipeline {
  /** The compiled shader. */
  pipeline: GPUComputePipeline;
  /** Layout of its bindings. */
  layout: GPUBindGroupLayout;
}

/** What {@linkcode openGpu} found out about the adapter. */
export interface GpuInfo {
  /** The adapter's own description, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  name: string;
  /** PCI vendor id in decimal, or a name. */
  vendor: string;
  /** True for a software adapter. */
  software: boolean;
  /** Fewest lanes of a subgroup; 0 where it is not known. */
  subgroupMinSize: number;
  /** Most lanes of a subgroup. */
  subgroupMaxSize: number;
  /** Features of the device, sorted. */
  features: string[];
}

/** An open device. Everything that runs on the GPU takes one. */
export interface Gpu {
  /** The WebGPU device. */
  device: GPUDevice;
  /** What the adapter is. */
  info: GpuInfo;
  /** Which kernels it runs. */
  profile: Profile;
  /** Largest binding in bytes. */
  maxBinding: number;
  /** Alignment of binding offsets in bytes. */
  alignment: number;
  /** The kernel, compiled when it is asked for the first time. */
  pipeline(kernel: Kernel): Pipeline;
  /** Pipelines compiled so far, and the milliseconds that took. */
  compiled(): { count: number; milliseconds: number };
  /** Reading memory back. */
  readback: Readback;
  /** Throws the first error that the GPU reported since it was opened. */
  check(): void;
  /**
   * Runs commands whose validation errors must not be missed: errors outside reach the host only when it is idle. They
   * are thrown by the next {@linkcode Gpu.check} after an await.
   */
  guard<T>(what: string, commands: () => T): T;
  /** Frees the device and everything on it. */
  close(): void;
}

/** Options of {@linkcode openGpu}. */
export interface OpenGpuOptions {
  /** Forces a profile; by default `cpu` on a software adapter with fixed subgroups, `gpu` elsewhere. */
  profile?: "cpu" | "gpu";
  /**
   * Measures which matmul tiles are fastest, once per adapter, and keeps the result in this file; by default in the project's
   * cache on hardware GPUs, and not at all on software adapters. `false` leaves the built-in rule.
   */
  tuningFile?: string | false;
}

/** Features asked for where the adapter lists them. */
const LISTED: GPUFeatureName[] = ["shader-f16", "timestamp-query"];

/** 64-bit integers in WGSL, an extension of naga's. */
const WIDE = "wgpu-shader-int64" as GPUFeatureName;

const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxStorageBuffersPerShaderStage",
] as const;

/**
 * Opens the GPU. On Linux it sets `DENO_WEBGPU_BACKEND` to `vulkan` where that is unset and permitted.
 *
 * @throws {Error} when there is no adapter, with what to do about it.
 */
export async function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  avoidOpenGl();
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error(NO_ADAPTER);
  const device = await requestDevice(adapter);
  const info = describe(adapter, device);
  const profile = chooseProfile(info, device, options.profile);

  let failure: Error | undefined;
  const refused = (what: string, error: GPUError) => {
    failure ??= new Error(`The GPU refused ${what}: ${error.message.trim().slice(0, 2000)}`);
  };
  device.addEventListener("uncapturederror", (event) => {
    refused("a command", (event as GPUUncapturedErrorEvent).error);
    event.preventDefault();
  });
  const guard = <T>(what: string, commands: () => T): T => {
    device.pushErrorScope("validation");
    try {
      return commands();
    } finally {
      device.popErrorScope().then((error) => error && refused(what, error));
    }
  };
  let closed = false;
  device.lost.then((lost) => {
    if (!closed) {
      failure ??= new Error(
        `The GPU was lost (${lost.message || lost.reason}). Run the command again with --resume.`,
      );
    }
  });
  const check = () => {
    if (failure) throw failure;
  };

  const subgroupsDirective = device.features.has("subgroups" as GPUFeatureName) &&
    await accepts(device, "enable subgroups;\n@compute @workgroup_size(1) fn main() {}");
  const wide = profile.kind === "cpu" && device.features.has(WIDE);
  const layouts = new Map<string, { layout: GPUBindGroupLayout; pipelineLayout: GPUPipelineLayout }>();
  const pipelines = new Map<string, Pipeline>();
  let milliseconds = 0;

  function layoutOf(kernel: Kernel) {
    const key = `${kernel.storage.length} ${kernel.uniforms.length}`;
    let found = layouts.get(key);
    if (!found) {
      const entries: GPUBindGroupLayoutEntry[] = kernel.storage.map((_, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: "storage" },
      }));
      if (kernel.uniforms.length) {
        entries.push({
          binding: entries.length,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: "uniform" },
        });
      }
      const layout = device.createBindGroupLayout({ entries });
      found = { layout, pipelineLayout: device.createPipelineLayout({ bindGroupLayouts: [layout] }) };
      layouts.set(key, found);
    }
    return found;
  }

  function pipeline(kernel: Kernel): Pipeline {
    let found = pipelines.get(kernel.name);
    if (found) return found;
    for (const need of kernel.needs) {
      if (!device.features.has(need as GPUFeatureName)) {
        throw new Error(`Kernel ${kernel.name} needs the feature ${need}, which ${info.name} does not have.`);
      }
    }
    const started = performance.now();
    const enables = kernel.needs.filter((need) => need !== "subgroups" || subgroupsDirective);
    const code = enables.map((need) => `enable ${need === "shader-f16" ? "f16" : need};`).join(" ") + "\n" +
      (wide && kernel.wideCode || kernel.code);
    const { layout, pipelineLayout } = layoutOf(kernel);
    found = guard(`kernel ${kernel.name}`, () => {
      const module = device.createShaderModule({ label: kernel.name, code });
      const compute = { module, entryPoint: "main" };
      return {
        layout,
        pipeline: device.createComputePipeline({ label: kernel.name, layout: pipelineLayout, compute }),
      };
    });
    pipelines.set(kernel.name, found);
    milliseconds += performance.now() - started;
    return found;
  }

  const readback = await openReadback(device, check);
  const gpu: Gpu = {
    device,
    info,
    profile,
    maxBinding: device.limits.maxStorageBufferBindingSize,
    alignment: Math.max(256, device.limits.minStorageBufferOffsetAlignment),
    pipeline,
    guard,
    compiled: () => ({ count: pipelines.size, milliseconds }),
    readback,
    check,
    close() {
      closed = true;
      device.destroy();
    },
  };
  if (profile.kind === "gpu" && options.tuningFile !== false && (!info.software || options.tuningFile)) {
    profile.tiles = await tunedTiles(gpu, options.tuningFile);
  }
  return gpu;
}

const NO_ADAPTER = `No GPU was found. keel needs a Vulkan, Metal or DirectX 12 driver that WebGPU can use.
On Linux: install your GPU's Vulkan driver, or Mesa's software driver (Debian, Ubuntu: apt-get install mesa-vulkan-drivers libvulkan1).
The launcher ./keel does this where it may. \`keel doctor\` says what is missing.`;

/**
 * On Linux Deno also opens OpenGL unless this variable says otherwise, and reads it at the first request for an adapter.
 * keel has no use for OpenGL: its loader crashes where a thread that used it ends while the process exits
 * (gfx-rs/wgpu#4285), and its software driver takes minutes to compile a kernel.
 */
function avoidOpenGl(): void {
  const variable = "DENO_WEBGPU_BACKEND";
  if (Deno.build.os !== "linux") return;
  if (Deno.permissions.querySync({ name: "env", variable }).state !== "granted") return;
  if (Deno.env.get(variable) === undefined) Deno.env.set(variable, "vulkan");
}

async function requestDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const listed = LISTED.filter((name) => adapter.features.has(name));
  // Deno gives these two without listing them; where the adapter has not got one, the request fails.
  const unlisted = ["subgroups" as GPUFeatureName, ...isSoftware(adapter) ? [WIDE] : []];
  for (;;) {
    try {
      return await adapter.requestDevice({ requiredFeatures: [...listed, ...unlisted], requiredLimits });
    } catch (error) {
      if (!unlisted.pop()) throw error;
    }
  }
}

function isSoftware(adapter: GPUAdapter): boolean {
  return (adapter.info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
}

function describe(adapter: GPUAdapter, device: GPUDevice): GpuInfo {
  const info = adapter.info as GPUAdapterInfo & { subgroupMinSize?: number; subgroupMaxSize?: number };
  return {
    name: info.description || info.device || "unknown adapter",
    vendor: info.vendor,
    software: isSoftware(adapter),
    subgroupMinSize: info.subgroupMinSize ?? 0,
    subgroupMaxSize: info.subgroupMaxSize ?? 0,
    features: [...device.features].map(String).sort(),
  };
}

function chooseProfile(info: GpuInfo, device: GPUDevice, forced?: "cpu" | "gpu"): Profile {
  const lanes = info.subgroupMinSize;
  const fixed = device.features.has("subgroups" as GPUFeatureName) && lanes > 0 &&
    lanes === info.subgroupMaxSize;
  const kind = forced ?? (info.software && fixed ? "cpu" : "gpu");
  if (kind === "cpu" && !fixed) {
    throw new Error(
      `The cpu profile needs subgroups of one fixed size; ${info.name} reports ${lanes} to ${info.subgroupMaxSize}.`,
    );
  }
  return { kind, lanes: fixed ? lanes : 0 };
}

async function accepts(device: GPUDevice, code: string): Promise<boolean> {
  device.pushErrorScope("validation");
  device.createShaderModule({ code });
  return await device.popErrorScope() === null;
}
