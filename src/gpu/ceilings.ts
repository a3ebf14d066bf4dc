/**
 * What an adapter can do at most: multiply-adds without loads, and copying memory. Kernels are measured against these.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, repeat } from "../../kernels/kernel.ts";
import { allocate } from "./buffers.ts";
import type { Gpu, GpuWindow } from "./device.ts";
import { prepare, submit } from "./run.ts";

/** Measured ceilings. */
export interface Ceilings {
  /** Multiply-adds count as two operations. */
  gflops: number;
  /** Bytes read plus bytes written. */
  gigabytesPerSecond: number;
}

const WORKGROUP = 64, ACCUMULATORS = 16, ROUNDS = 9;

/** Milliseconds of the fastest of a few runs. */
async function fastest(gpu: Gpu, launch: Launch<GpuWindow>): Promise<number> {
  const program = prepare(gpu, [launch]);
  submit(gpu, program);
  await gpu.readback.wait();
  let best = Infinity;
  for (let i = 0; i < ROUNDS; i++) {
    const started = performance.now();
    submit(gpu, program);
    await gpu.readback.wait();
    best = Math.min(best, performance.now() - started);
  }
  program.destroy();
  return best;
}

/** Measures the adapter; takes well under a second. */
export async function measureCeilings(gpu: Gpu): Promise<Ceilings> {
  const software = gpu.info.software;
  const iterations = software ? 256 : 4096, groups = software ? 256 : 8192;
  const arithmetic = cachedKernel("ceiling_multiply_add", () => ({
    storage: { out: "vec4f" },
    writes: ["out"],
    uniforms: { iterations: "u32", factor: "f32" },
    workgroup: WORKGROUP,
    body: `
  let f = vec4f(u.factor, u.factor * 0.5, u.factor * 0.25, u.factor * 0.125);
  ${repeat(ACCUMULATORS, (i) => `var a${i} = f + ${i}.0;`)}
  for (var i = 0u; i < u.iterations; i++) {
    ${repeat(ACCUMULATORS, (i) => `a${i} = fma(a${i}, f, f);`)}
  }
  out[group.x * ${WORKGROUP}u + lane] = ${repeat(ACCUMULATORS, (i) => `a${i}`, " + ")};`,
  }));
  const out = allocate(gpu, groups * WORKGROUP * 16, "ceiling");
  const operations = groups * WORKGROUP * iterations * ACCUMULATORS * 4 * 2;
  const compute = await fastest(gpu, {
    kernel: arithmetic,
    buffers: { out },
    uniforms: { iterations, factor: 0.5 },
    grid: [groups, 1, 1],
  });

  const quads = (software ? 16 : 128) * 2 ** 16;
  const copying = cachedKernel("ceiling_copy", () => ({
    storage: { from_: "vec4f", to: "vec4f" },
    writes: ["to"],
    uniforms: { quads: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i < u.quads) { to[i] = from_[i]; }`,
  }));
  const from_ = allocate(gpu, quads * 16, "ceiling"), to = allocate(gpu, quads * 16, "ceiling");
  const copy = await fastest(gpu, {
    kernel: copying,
    buffers: { from_, to },
    uniforms: { quads },
    grid: linearGrid(Math.ceil(quads / WORKGROUP)),
  });
  for (const { buffer } of [out, from_, to]) buffer.destroy();
  return { gflops: operations / compute / 1e6, gigabytesPerSecond: quads * 32 / copy / 1e6 };
}
