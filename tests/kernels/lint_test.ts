/**
 * Every kernel is compiled by Tint (Dawn's null backend, no driver), which is stricter than naga about barriers and subgroup
 * operations in non-uniform control flow, and with the default limits of WebGPU, so that it runs everywhere.
 */
import assert from "node:assert/strict";
import { create } from "webgpu";
import type { Kernel, Profile } from "../../kernels/kernel.ts";
import { catalogue } from "./catalogue.ts";

const PROFILES: Profile[] = [{ kind: "cpu", lanes: 8 }, { kind: "gpu", lanes: 0 }, {
  kind: "gpu",
  lanes: 32,
}];

// Dawn crashes when the instance is collected before its devices.
const instance = create(["backend=null"]) as GPU;

async function openTint(): Promise<GPUDevice> {
  const adapter = (await instance.requestAdapter())!;
  return await adapter.requestDevice({ requiredFeatures: ["subgroups", "shader-f16"] as GPUFeatureName[] });
}

/** Tint's first complaint about a kernel, if any. */
async function complaint(device: GPUDevice, kernel: Kernel): Promise<string | undefined> {
  const enables = kernel.needs.map((need) => `enable ${need === "shader-f16" ? "f16" : need};`).join(" ");
  // Where a workgroup is one subgroup, what subgroupBroadcastFirst gives is uniform; Tint does not know that.
  const oneSubgroup = kernel.code.includes("subgroupBroadcastFirst");
  const directives = `${enables} ${oneSubgroup ? "diagnostic(off, subgroup_uniformity);" : ""}`;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: `${directives}\n${kernel.code}` });
  const messages = (await module.getCompilationInfo()).messages.filter(({ type }) => type !== "info");
  device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device.popErrorScope();
  if (messages.length) return `line ${messages[0].lineNum}: ${messages[0].message}`;
  return error?.message;
}

for (const [file, launches] of Object.entries(catalogue)) {
  Deno.test({
    name: `Tint accepts every kernel of ${file} on both profiles`,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const device = await openTint();
      const seen = new Set<string>();
      for (const profile of PROFILES) {
        for (const { kernel, buffers, uniforms } of launches(profile)) {
          assert.ok(kernel.storage.every((name) => buffers[name] !== undefined), kernel.name);
          assert.deepEqual(
            Object.keys(uniforms).sort(),
            kernel.uniforms.map(([name]) => name).sort(),
            kernel.name,
          );
          assert.ok(kernel.writes.every((name) => kernel.storage.includes(name)), kernel.name);
          if (profile.kind === "gpu") assert.deepEqual(kernel.needs, [], `${kernel.name} needs features`);
          if (seen.has(kernel.name)) continue;
          seen.add(kernel.name);
          const found = await complaint(device, kernel);
          assert.equal(found, undefined, `${kernel.name}: ${found}`);
        }
      }
      device.destroy();
    },
  });
}

Deno.test("every file of kernels that makes kernels is in the catalogue", async () => {
  const missing: string[] = [];
  for await (const { name } of Deno.readDir(new URL("../../kernels", import.meta.url))) {
    const text = await Deno.readTextFile(new URL(`../../kernels/${name}`, import.meta.url));
    const makes = /^export function \w+<B>\(/m.test(text);
    if (makes && !(name in catalogue)) missing.push(name);
  }
  assert.deepEqual(missing, []);
});
