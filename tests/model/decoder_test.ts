/** The decoder against PyTorch: hidden states, logits, loss, log-probabilities and the gradient of every parameter. */
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import type { HostWeights } from "../../src/model/params.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { batchOf, runBatch, Shares, trainable } from "./batch.ts";
import { type Golden, openGolden } from "./golden.ts";

async function checkDecoder(
  directory: string,
  profile: "cpu" | "gpu",
  goldenDirectory = directory,
): Promise<void> {
  const gpu = await openGpu({ profile }), g = openGolden(goldenDirectory);
  const model = trainable(gpu, loadModel(gpu, directory));
  const { outputs, gradients } = await runBatch(gpu, model, batchOf(g));
  const shares = new Shares(`${directory.split("/").at(-1)}, ${profile} profile`);
  for (const [name, values] of Object.entries(outputs)) {
    // stories260K keeps some layers only.
    if (g.has(name)) shares.add(name, values, g.floats(name), g.atol(name));
  }
  compareGradients(g, gradients, shares);
  shares.check(Object.keys(gradients).length + 6);
  gpu.close();
}

function compareGradients(g: Golden, gradients: HostWeights, shares: Shares): void {
  if (!g.has("grad.norms")) {
    for (const [name, { data }] of Object.entries(gradients)) {
      // transformers 5 calls GPT-NeoX's head so in memory, and embed_out still in files.
      const key = `grad.${name.replace("embed_out", "lm_head")}`;
      shares.add(key, data, g.floats(key), g.atol(key));
    }
    return;
  }
  const names = g.json.grad_names as string[], want = g.floats("grad.norms");
  names.forEach((name, i) => {
    const norm = Math.hypot(...gradients[name].data);
    shares.add(`norm of grad.${name}`, [norm], [want[i]], g.atol("grad.norms"));
  });
}

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} has PyTorch's numbers on the ${profile} profile`, async () => {
      await checkDecoder(golden(`models/${name}`), profile);
    });
  }
  for (
    const name of [
      "gemma",
      "gemma2",
      "gpt-neox",
      "gpt2",
      "mistral",
      "phi3",
      "qwen2",
      "qwen2-sharded",
      "qwen3",
    ]
  ) {
    assetTest(`tiny-${name} has PyTorch's numbers on the ${profile} profile`, async () => {
      await checkDecoder(
        asset(`goldens/models/tiny-${name}`),
        profile,
        asset(`goldens/models/tiny-${name.replace("-sharded", "")}`),
      );
    });
  }
  assetTest(`stories260K has PyTorch's numbers on the ${profile} profile`, async () => {
    await checkDecoder(asset("goldens/models/stories260K"), profile);
  });
}
