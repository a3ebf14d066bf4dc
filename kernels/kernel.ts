/**
 * The form of every kernel: WGSL text with named bindings, and a launch that fills those names.
 *
 * A kernel family (`kernels/matmul.ts`, …) exports functions that return {@linkcode Launch}es. A launch knows nothing of
 * devices: `B` is whatever stands for a piece of GPU memory, a tape tensor while a step is recorded or a buffer window when
 * a kernel is run alone. Bindings are matched by name, so no number is written in two places.
 *
 * All storage bindings are `read_write`: activations are packed into one arena, and WebGPU refuses one buffer bound
 * read-only and read-write in the same dispatch.
 *
 * @module
 */

/** What the kernels must know of an adapter. */
export interface Profile {
  /** `cpu`: register tiles, one subgroup per workgroup, no barrier. `gpu`: workgroup tiles. */
  kind: "cpu" | "gpu";
  /** Lanes per subgroup; the same for every workgroup on the `cpu` profile, where it is asserted. */
  lanes: number;
  /** Matmul tiles that were measured on this adapter, by shape class (`matmul_gpu.ts`). */
  tiles?: Record<string, 32 | 64>;
}

/** One compute shader. `name` is its identity: two kernels of one name have one text. */
export interface Kernel {
  /** Identity: two kernels of one name have one text. */
  name: string;
  /** WGSL without `enable` directives. */
  code: string;
  /** The same for software adapters with 64-bit integers, where it differs: {@linkcode KernelSpec.storage}. */
  wideCode?: string;
  /** Names of the storage buffers in binding order. */
  storage: string[];
  /** The bindings that the kernel writes, a subset of `storage`. */
  writes: string[];
  /** Names and types of the uniform struct's fields, in order; empty when there is none. */
  uniforms: [string, "u32" | "f32"][];
  /** Device features used by the text. */
  needs: ("subgroups" | "shader-f16")[];
}

/** One dispatch of a kernel over buffers of type `B`. */
export interface Launch<B> {
  kernel: Kernel;
  buffers: Record<string, B>;
  uniforms: Record<string, number>;
  /** Workgroups in x, y, z, each at most 65,535. */
  grid: [number, number, number];
}

/** Parts of a kernel; see {@linkcode defineKernel}. */
export interface KernelSpec {
  name: string;
  /**
   * Binding name to element type, e.g. `{ x: "vec4f" }` for `var<storage, read_write> x: array<vec4f>`.
   *
   * A `quad` is a vec4f that is only read, with `load_x(index)`: a software adapter checks and fetches every word of a vector
   * on its own, so that two of 64 bits cost it less than four of 32.
   */
  storage: Record<string, string>;
  writes: string[];
  /** Fields of the uniform `u`, e.g. `{ rows: "u32" }`. */
  uniforms?: Record<string, "u32" | "f32">;
  needs?: ("subgroups" | "shader-f16")[];
  /** Invocations per workgroup. */
  workgroup: number;
  /** Module-scope functions, constants and workgroup variables. */
  module?: string;
  /** Body of `main`. In scope: `group` (workgroup id, `vec3u`), `lane` (index in the workgroup), and `u`. */
  body: string;
}

/** Assembles the WGSL of a kernel from its bindings and its body. */
export function defineKernel(spec: KernelSpec): Kernel {
  const types = Object.values(spec.storage);
  return {
    name: spec.name,
    code: assemble(spec, false),
    wideCode: types.includes("quad") ? assemble(spec, true) : undefined,
    storage: Object.keys(spec.storage),
    writes: spec.writes,
    uniforms: Object.entries(spec.uniforms ?? {}),
    needs: spec.needs ?? [],
  };
}

function assemble(spec: KernelSpec, wide: boolean): string {
  const uniforms = Object.entries(spec.uniforms ?? {});
  const storage = Object.entries(spec.storage);
  const lines = storage.map(([name, type], index) =>
    `@group(0) @binding(${index}) var<storage, read_write> ${name}: ` +
    (type === "quad" ? quads(name, wide) : `array<${type}>;`)
  );
  if (uniforms.length > 0) {
    lines.push(`struct Uniforms { ${uniforms.map(([name, type]) => `${name}: ${type}`).join(", ")} }`);
    lines.push(`@group(0) @binding(${storage.length}) var<uniform> u: Uniforms;`);
  }
  if (spec.module) lines.push(spec.module);
  lines.push(
    `@compute @workgroup_size(${spec.workgroup})`,
    `fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {`,
    spec.body,
    `}`,
  );
  return lines.join("\n");
}

/** The type of a binding of quads, and the function that loads one. */
function quads(name: string, wide: boolean): string {
  if (!wide) return `array<vec4f>;\nfn load_${name}(i: u32) -> vec4f { return ${name}[i]; }`;
  return `array<vec2<u64>>;
fn load_${name}(i: u32) -> vec4f {
  let x = ${name}[i];
  return bitcast<vec4f>(vec4u(u32(x.x), u32(x.x >> 32u), u32(x.y), u32(x.y >> 32u)));
}`;
}

const kernels = new Map<string, Kernel>();

/** The kernel called `name`, made by `spec` when it is asked for the first time. */
export function cachedKernel(name: string, spec: () => Omit<KernelSpec, "name">): Kernel {
  let kernel = kernels.get(name);
  if (!kernel) kernels.set(name, kernel = defineKernel({ name, ...spec() }));
  return kernel;
}

/** Most workgroups in one dimension of a dispatch. */
export const MAX_GROUPS = 65535;

/** A grid of at least `groups` workgroups; the kernel finds its own with {@linkcode LINEAR_GROUP}. */
export function linearGrid(groups: number): [number, number, number] {
  return groups <= MAX_GROUPS ? [groups, 1, 1] : [MAX_GROUPS, Math.ceil(groups / MAX_GROUPS), 1];
}

/** WGSL expression of the workgroup's index in a {@linkcode linearGrid}. */
export const LINEAR_GROUP = `(group.y * ${MAX_GROUPS}u + group.x)`;

/** `count` pieces of text: `repeat(2, (i) => "x" + i)` is `x0\nx1`. */
export function repeat(count: number, piece: (index: number) => string, separator = "\n"): string {
  return Array.from({ length: count }, (_, index) => piece(index)).join(separator);
}

/** Columns as the kernels see them: the next multiple of four, the added ones holding zeros. */
export function padded(columns: number): number {
  return (columns + 3) & ~3;
}

/**
 * Floats from one row of a stored matrix to the next. Rows a multiple of 4 KiB apart would all lie in the same few lines of a
 * processor's first cache, so these are 64 bytes further apart; what lies between is never read.
 */
export function rowStride(columns: number): number {
  const width = padded(columns);
  return width % 1024 === 0 ? width + 16 : width;
}
