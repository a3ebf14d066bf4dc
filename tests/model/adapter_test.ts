/** Adapters against PEFT: logits, loss, log-probabilities, and the gradient of every adapter matrix. */
import { openGpu } from "../../src/gpu/device.ts";
import { baseOf, loadAdapted } from "../../src/model/peft.ts";
import { asset, assetTest } from "../assets.ts";
import { batchOf, runBatch, Shares, trainable } from "./batch.ts";
import { openGolden } from "./golden.ts";

async function checkAdapter(directory: string, profile: "cpu" | "gpu"): Promise<void> {
  const gpu = await openGpu({ profile }), g = openGolden(directory);
  const model = trainable(gpu, loadAdapted(gpu, directory));
  const { outputs, gradients } = await runBatch(gpu, model, batchOf(openGolden(baseOf(directory))));
  const shares = new Shares(`${directory.split("/").at(-1)}, ${profile} profile`);
  const compare = (name: string, got: Float32Array) => shares.add(name, got, g.floats(name), g.atol(name));
  compare("loss", outputs.loss);
  compare("logprobs_t1", outputs.logprobs_t1);
  compare("logits_rows01", outputs.logits.subarray(0, outputs.logits.length / 2));
  for (const [name, { data }] of Object.entries(gradients)) compare(`grad.${name}`, data);
  shares.check(Object.keys(gradients).length + 3);
  gpu.close();
}

for (const profile of ["cpu", "gpu"] as const) {
  for (
    const name of [
      "tiny-llama-lora",
      "tiny-llama-rslora",
      "tiny-llama-dora",
      "tiny-gpt2-lora",
      "tiny-gpt2-dora",
    ]
  ) {
    assetTest(`${name} has PEFT's numbers on the ${profile} profile`, async () => {
      await checkAdapter(asset(`goldens/adapters/${name}`), profile);
    });
  }
}
