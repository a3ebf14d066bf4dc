/**
 * `keel doctor`: what this machine's GPU is, what it can do, and what is wrong with it.
 *
 * @module
 */
import { matmul } from "../../../kernels/matmul.ts";
import { allocate, readFloats, upload } from "../../gpu/buffers.ts";
import { measureCeilings } from "../../gpu/ceilings.ts";
import { type Gpu, openGpu } from "../../gpu/device.ts";
import { prepare, runOnce, submit } from "../../gpu/run.ts";
import { randomStream } from "../../random/stream.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (_options, io) => {
  const gpu = await openGpu();
  try {
    const { device, info, profile } = gpu;
    const ceilings = await measureCeilings(gpu);
    const product = await checkMatmul(gpu);
    const problems = findProblems(gpu, product.error);
    const facts = {
      adapter: info.name,
      software: info.software,
      profile: profile.kind,
      subgroups: info.subgroupMinSize === info.subgroupMaxSize
        ? `${info.subgroupMinSize} lanes`
        : `${info.subgroupMinSize} to ${info.subgroupMaxSize} lanes`,
      features: info.features.filter((name) => ["shader-f16", "subgroups", "timestamp-query"].includes(name)),
      readback: gpu.readback.fast ? "synchronous" : "awaited (10 ms each)",
      limits: {
        maxStorageBufferBindingSize: device.limits.maxStorageBufferBindingSize,
        maxBufferSize: device.limits.maxBufferSize,
        maxComputeWorkgroupStorageSize: device.limits.maxComputeWorkgroupStorageSize,
        maxStorageBuffersPerShaderStage: device.limits.maxStorageBuffersPerShaderStage,
      },
      multiplyAddGflops: round(ceilings.gflops),
      copyGigabytesPerSecond: round(ceilings.gigabytesPerSecond),
      matmulGflops: round(product.gflops),
      matmulRelativeError: product.error,
      problems,
    };
    if (io.json) io.print(JSON.stringify(facts));
    else {
      for (const [name, value] of Object.entries(facts)) {
        if (name === "problems" || name === "limits") continue;
        io.print(`${LABELS[name] ?? name}: ${Array.isArray(value) ? value.join(", ") : value}`);
      }
      for (const [name, value] of Object.entries(facts.limits)) io.print(`${name}: ${value}`);
      io.print(
        problems.length ? problems.map((text) => `Problem: ${text}`).join("\n") : "No problems found.",
      );
    }
    return problems.length ? 1 : 0;
  } finally {
    gpu.close();
  }
};

const LABELS: Record<string, string> = {
  multiplyAddGflops: "multiply-add ceiling, GFLOP/s",
  copyGigabytesPerSecond: "copy ceiling, GB/s",
  matmulGflops: "matmul 512³, GFLOP/s",
  matmulRelativeError: "matmul relative error",
};

const round = (x: number) => Number(x.toPrecision(3));

/** A 512³ product, timed, and a small one against float64. */
async function checkMatmul(gpu: Gpu): Promise<{ gflops: number; error: number }> {
  const n = 512, rng = randomStream(1, "doctor");
  const random = (size: number) => Float32Array.from({ length: size }, () => rng.uniform() - 0.5);
  const a = upload(gpu, random(n * n)), b = upload(gpu, random(n * n)), c = allocate(gpu, n * n * 4);
  const program = prepare(gpu, [matmul(gpu.profile, { a, b, c }, { trans: "nn", m: n, n, k: n })]);
  let best = Infinity;
  for (let i = 0; i < 5; i++) {
    const started = performance.now();
    submit(gpu, program);
    await gpu.readback.wait();
    best = Math.min(best, performance.now() - started);
  }
  const k = 36, left = random(k * k), right = random(k * k), out = allocate(gpu, k * k * 4);
  runOnce(gpu, [
    matmul(gpu.profile, { a: upload(gpu, left), b: upload(gpu, right), c: out }, {
      trans: "nn",
      m: k,
      n: k,
      k,
    }),
  ]);
  const got = await readFloats(gpu, out);
  let worst = 0, size = 0;
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < k; j++) {
      let sum = 0;
      for (let x = 0; x < k; x++) sum += left[i * k + x] * right[x * k + j];
      worst += (got[i * k + j] - sum) ** 2;
      size += sum * sum;
    }
  }
  return { gflops: 2 * n ** 3 / best / 1e6, error: Math.sqrt(worst / size) };
}

function findProblems(gpu: Gpu, error: number): string[] {
  const problems: string[] = [];
  if (!(error < 1e-5)) {
    problems.push(
      `Matrix products are wrong on this adapter (relative error ${error}). Update its driver, or use another.`,
    );
  }
  if (gpu.info.software && gpu.profile.kind === "gpu") {
    problems.push(
      "This is a software adapter without subgroups of a fixed size: keel runs, but slowly. Mesa 25 has them.",
    );
  }
  if (gpu.device.limits.maxStorageBuffersPerShaderStage < 8) {
    problems.push(
      "The adapter binds fewer than 8 storage buffers; some kernels need as many. Update its driver.",
    );
  }
  return problems;
}
