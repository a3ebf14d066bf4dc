/** The device: errors are reported with names, wrong arguments never reach the calls that would end the process. */
import assert from "node:assert/strict";
import { defineKernel } from "../../kernels/kernel.ts";
import { elementwise } from "../../kernels/elementwise.ts";
import { allocate, readFloats, slice, upload, write } from "../../src/gpu/buffers.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { openReadback } from "../../src/gpu/readback.ts";
import { prepare, runOnce } from "../../src/gpu/run.ts";
import { makeModel } from "../../src/model/load.ts";
import { initialWeights } from "../../src/model/init.ts";
import { readParams } from "../../src/model/params.ts";
import { PARROT_CONFIG } from "../../src/parrot/datasets.ts";
import { openLearner } from "../../src/train/learner.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

async function withGpu(use: (gpu: Gpu) => Promise<void>): Promise<void> {
  const gpu = await openGpu();
  try {
    await use(gpu);
  } finally {
    gpu.close();
  }
}

Deno.test("a kernel that does not compile is named", async () => {
  await withGpu(async (gpu) => {
    const kernel = defineKernel({
      name: "broken",
      storage: { x: "f32" },
      writes: ["x"],
      workgroup: 1,
      body: "x[0] = y;",
    });
    const x = allocate(gpu, 16);
    try {
      runOnce(gpu, [{ kernel, buffers: { x }, uniforms: {}, grid: [1, 1, 1] }]);
    } catch {
      // The error may be known at once.
    }
    await turn();
    assert.throws(() => gpu.check(), /The GPU refused kernel broken: .*y/s);
  });
});

Deno.test("a launch with missing or wrong parts is refused before it reaches the GPU", async () => {
  await withGpu((gpu) => {
    const out = allocate(gpu, 64), a = allocate(gpu, 64);
    const good = elementwise(gpu.profile, { name: "copy", expression: "a" }, { a }, out, 16);
    assert.throws(() => prepare(gpu, [{ ...good, buffers: { out } }]), /without its buffer "in_a"/);
    assert.throws(() => prepare(gpu, [{ ...good, uniforms: {} }]), /without its uniform "quads"/);
    assert.throws(() => prepare(gpu, [{ ...good, uniforms: { quads: -1 } }]), /must be a u32; got -1/);
    assert.throws(() => prepare(gpu, [{ ...good, grid: [70000, 1, 1] }]), /grid 70000×1×1/);
    const small = { ...gpu, maxBinding: 32 };
    assert.throws(() => prepare(small, [good]), /has 64 bytes; .* binds at most 32/);
    return Promise.resolve();
  });
});

Deno.test("memory is written and read only where it is", async () => {
  await withGpu(async (gpu) => {
    const window = upload(gpu, new Float32Array([1, 2, 3, 4]));
    assert.throws(() => write(gpu, window, new Float32Array(5)), /Cannot write 20 bytes to a window of 16/);
    assert.throws(() => slice(window, 8, 12), /outside its 16 bytes/);
    assert.throws(() => allocate(gpu, 2 ** 40, "Too much"), /Too much needs .* allows/);
    await assert.rejects(gpu.readback.read([{ ...window, size: 6 }]), /positive multiple of 4/);
    assert.deepEqual([...await readFloats(gpu, slice(window, 4, 8))], [2, 3]);
    // Reads that are asked for together share the staging buffer one after the other.
    const all = await Promise.all([0, 4, 8, 12].map((at) => readFloats(gpu, slice(window, at, 4))));
    assert.deepEqual(all.map(([x]) => x), [1, 2, 3, 4]);
  });
});

Deno.test("read-back is tested when the device is opened, and awaited where the fast path does not hold", async () => {
  await withGpu(async (gpu) => {
    assert.equal(gpu.readback.fast, true);
    const original = GPUBuffer.prototype.mapAsync;
    // An implementation that maps later, as the specification allows.
    GPUBuffer.prototype.mapAsync = async function (...args) {
      await turn();
      return original.apply(this, args);
    };
    try {
      const slow = await openReadback(gpu.device, gpu.check);
      assert.equal(slow.fast, false);
      const window = upload(gpu, new Float32Array([5, 6, 7, 8]));
      const [bytes] = await slow.read([window]);
      assert.deepEqual([...new Float32Array(bytes.buffer)], [5, 6, 7, 8]);
    } finally {
      GPUBuffer.prototype.mapAsync = original;
    }
  });
});

Deno.test({
  name: "OpenGL is not opened beside Vulkan",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const device = import.meta.resolve("../../src/gpu/device.ts");
    const code = `import { openGpu } from "${device}"; (await openGpu()).close();
      console.log(Deno.readTextFileSync("/proc/self/maps"));`;
    const { DENO_WEBGPU_BACKEND: _, ...env } = Deno.env.toObject();
    const { stdout, success } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", code],
      clearEnv: true,
      env,
    }).output();
    assert.ok(success);
    assert.doesNotMatch(new TextDecoder().decode(stdout), /\/libEGL\.so/);
  },
});

Deno.test("a lost device is reported with what to do", async () => {
  const gpu = await openGpu();
  gpu.device.destroy();
  await gpu.device.lost;
  await turn();
  assert.throws(() => gpu.check(), /The GPU was lost .*--resume/);
});

Deno.test("the optimiser walks an arena larger than a binding in windows, with the same result", async () => {
  await withGpu(async (gpu) => {
    const weights = initialWeights(PARROT_CONFIG, 1);
    const settings = {
      learningRate: 1e-2,
      adamBeta1: 0.9,
      adamBeta2: 0.999,
      adamEpsilon: 1e-8,
      weightDecay: 0.1,
      maxGradNorm: 0.5,
    };
    const results = [];
    for (const maxBinding of [gpu.maxBinding, 100_000]) {
      const model = makeModel(gpu, PARROT_CONFIG, (name) => weights[name]);
      const learner = openLearner({ ...gpu, maxBinding }, model);
      const { gradients } = learner.model.params.training!;
      const floats = gradients.size / 4;
      write(gpu, gradients, Float32Array.from({ length: floats }, (_, i) => Math.sin(i)));
      const { gradNorm } = await learner.step(settings);
      results.push({ gradNorm, weights: await readParams(gpu, model.params) });
    }
    const [whole, parts] = results;
    assert.ok(Math.abs(parts.gradNorm / whole.gradNorm - 1) < 1e-6);
    for (const [name, { data }] of Object.entries(whole.weights)) {
      const other = parts.weights[name].data;
      assert.ok(data.every((x, i) => Math.abs(x - other[i]) < 1e-6), name);
      assert.ok(data.some((x, i) => x !== weights[name].data[i]), `${name} did not move`);
    }
  });
});
