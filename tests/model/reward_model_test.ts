/** Reward models against transformers: scores, and the gradients of the Bradley–Terry loss by every parameter. */
import assert from "node:assert/strict";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { weightOf } from "../../src/model/block.ts";
import { batchInputs, decoder } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { unpackWeights } from "../../src/model/params.ts";
import { bradleyTerryLoss } from "../../src/rl/losses.ts";
import { scalarHead } from "../../src/tape/ops/linear.ts";
import { gather } from "../../src/tape/ops/reduce.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { Shares, trainable } from "./batch.ts";
import { openGolden, unpad } from "./golden.ts";

const PAIRS = 4;

async function checkRewardModel(directory: string, profile: "cpu" | "gpu"): Promise<void> {
  const gpu = await openGpu({ profile }), g = openGolden(directory);
  const rowsOf = (side: string) =>
    unpad(
      g.integers(`${side}.input_ids`),
      g.integers(`${side}.attention_mask`),
      g.shape(`${side}.input_ids`),
    ).documents;
  const documents = rowsOf("right"), packed = packBatch(documents);
  assert.deepEqual(rowsOf("left"), documents);
  const title = `${directory.split("/").at(-1)}, ${profile} profile`;
  for (const [name, center] of [["bt", undefined], ["bt_center", 0.01]] as const) {
    const model = trainable(gpu, loadModel(gpu, directory));
    const tape = new Tape(gpu.profile), vector = (name: string, count: number) => tape.input(name, [count]);
    const hidden = decoder(tape, model, batchInputs(tape, packed.tokens));
    const scores = scalarHead(tape, hidden, weightOf(tape, model, "score"));
    const pick = (side: string) => gather(tape, scores, tape.input(side, [PAIRS], "u32"));
    const sides = { chosen: pick("chosenAt"), rejected: pick("rejectedAt") };
    const given = { margin: vector("margin", PAIRS), weights: vector("weights", PAIRS) };
    const coefficient = center === undefined ? undefined : vector("center", PAIRS);
    const loss = bradleyTerryLoss(tape, { ...sides, ...given }, coefficient);
    for (const [key, tensor] of Object.entries({ ...sides, loss })) tape.output(key, tensor);
    tape.backward(loss, tape.input("one", [1]));
    const last = packed.first.map((first, i) => first + packed.lengths[i] - 1);
    const { ids, positions, starts, ends, order, positionOrder } = packed;
    const out = await compile({ gpu }, tape).run({
      ...{ ids, positions, starts, ends, order, positionOrder },
      chosenAt: last.slice(0, PAIRS),
      rejectedAt: last.slice(PAIRS),
      margin: new Float32Array(PAIRS),
      weights: new Float32Array(PAIRS).fill(1 / PAIRS),
      ...(center !== undefined && { center: new Float32Array(PAIRS).fill(center) }),
      one: new Float32Array([1]),
    });

    const shares = new Shares(`${title}: ${name}`);
    const compare = (key: string, got: ArrayLike<number>) => shares.add(key, got, g.floats(key), g.atol(key));
    const scored = [...out.chosen.subarray(0, PAIRS), ...out.rejected.subarray(0, PAIRS)];
    compare("right.scores", scored);
    compare("left.scores", scored);
    compare("bt.margin", scored.slice(0, PAIRS).map((score, i) => score - scored[i + PAIRS]));
    compare(`${name}.loss`, out.loss.subarray(0, 1));
    const { layout, training } = model.params;
    const gradients = unpackWeights(layout, await readFloats(gpu, training!.gradients));
    for (const [key, { data }] of Object.entries(gradients)) compare(`${name}.grad.${key}`, data);
    shares.check(4 + 21);
  }
  gpu.close();
}

for (const profile of ["cpu", "gpu"] as const) {
  Deno.test(`tiny-llama-rm has PyTorch's scores and gradients on the ${profile} profile`, async () => {
    await checkRewardModel(golden("models/tiny-llama-rm"), profile);
  });
  assetTest(`tiny-qwen2-rm has PyTorch's scores and gradients on the ${profile} profile`, async () => {
    await checkRewardModel(asset("goldens/models/tiny-qwen2-rm"), profile);
  });
}
