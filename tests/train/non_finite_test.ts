/** A loss or a gradient that is not finite: skipped, counted, kept for a look; three in a row end the run. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readFloats } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import { slotTensor } from "../../src/model/params.ts";
import { fromJson } from "../../src/run/json.ts";
import { openRun } from "../../src/run/run.ts";
import { multiply } from "../../src/tape/ops/elementwise.ts";
import { sum } from "../../src/tape/ops/reduce.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { openGuard } from "../../src/train/guard.ts";
import { openLearner } from "../../src/train/learner.ts";
import { golden, withDirectory } from "../assets.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { type Method, pairs, smallRun } from "./small.ts";

interface Dump {
  step: number;
  culprit: string;
  inputs: Record<string, number[]>[];
}

const readDump = (directory: string, step: number) =>
  fromJson(Deno.readTextFileSync(join(directory, "non_finite", `step-${step}.json`))) as Dump;

for (
  const [run, poison] of [
    [{ method: "sft" }, { model: "trained", name: "model.layers.1.mlp.up_proj.weight", value: NaN }],
    [{ method: "reward" }, {
      model: "trained",
      name: "model.layers.0.self_attn.o_proj.weight",
      value: Infinity,
    }],
    [{ method: "ppo" }, { model: "trained", name: "model.norm.weight", value: NaN }],
    [{ method: "ppo" }, { model: "reward", name: "score.weight", value: Infinity }],
  ] as const
) {
  Deno.test(`${run.method} stops after three steps where a weight of the ${poison.model} model is ${poison.value}`, () =>
    withDirectory(async (directory) => {
      const { events, error, happened } = await smallRun(directory, run, { poison });
      assert.match(error!.message, /^Step 3: loss or gradient was not finite for 3 steps in a row\. First: /);
      assert.match(error!.message, /There is no checkpoint yet\. Try a smaller learning rate/);
      assert.deepEqual(events.map(({ metrics }) => metrics.skipped_steps), [1, 2]);
      const kept = happened.filter(({ kind }) => kind === "non_finite");
      assert.deepEqual(kept.map(({ step }) => step), [1, 2, 3]);
      for (const step of [1, 2, 3]) {
        const { culprit, inputs } = readDump(directory, step);
        assert.equal(culprit, kept[step - 1].detail.culprit);
        // Kernel, tensor and shape; a poisoned reward model shows in the advantages that PPO makes of its scores.
        assert.match(culprit, /^\w+ wrote a non-finite value to ".+" \[[\d,]+\]/);
        const ofScores = culprit.endsWith('; the input "advantages" had one already');
        assert.equal(ofScores, poison.model === "reward", culprit);
        assert.ok(inputs.length === 1 && inputs[0].ids.length >= 64);
      }
    }));
}

for (const method of ["sft", "reward", "ppo"] as const) {
  Deno.test(`${method} whose learning rate explodes names the checkpoint of the last good step`, () =>
    withDirectory(async (directory) => {
      const options = {
        learningRate: 1e25,
        lrSchedulerType: "constant" as const,
        maxGradNorm: 0,
        maxSteps: 9,
        saveSteps: 1,
        saveTotalLimit: 1,
        ...(method === "ppo" ? { numPpoEpochs: 1, numMiniBatches: 1 } : {}),
      };
      const { events, error } = await smallRun(directory, { method, options } as Method);
      const good = events.filter(({ metrics }) => metrics.skipped_steps === 0).length;
      assert.ok(good >= 1, "the first step is good");
      assert.equal(events.length, good + 2);
      const checkpoint = join(directory, "checkpoints", `step-${good}`);
      assert.ok(error!.message.includes(`The last good checkpoint is ${checkpoint}.`), error!.message);
      // Skipped steps left no checkpoints that would have pushed it out.
      assert.deepEqual([...Deno.readDirSync(join(directory, "checkpoints"))].map(({ name }) => name), [
        `step-${good}`,
      ]);
    }));
}

for (const margin of [NaN, Infinity]) {
  Deno.test(`one batch with a margin of ${margin} changes nothing but the count of skipped steps`, () =>
    withDirectory(async (directory) => {
      const good = pairs(4, 6).map((pair) => ({ ...pair, margin: 0.1 }));
      const bad = { ...pairs(9, 1)[0], margin };
      const options = {
        lrSchedulerType: "constant" as const,
        shuffleDataset: false,
        perDeviceTrainBatchSize: 1,
        gradientAccumulationSteps: 2,
      };
      const clean = await smallRun(join(directory, "clean"), {
        method: "reward",
        examples: good,
        options: { ...options, maxSteps: 3 },
      });
      // The second step is the bad one; of its two passes the first is to blame.
      const examples = [...good.slice(0, 2), bad, pairs(8, 1)[0], ...good.slice(2)];
      const skipped = await smallRun(join(directory, "skipped"), {
        method: "reward",
        examples,
        options: { ...options, maxSteps: 4 },
      });
      assert.equal(skipped.error, undefined);
      assert.deepEqual(skipped.events.map(({ metrics }) => metrics.skipped_steps), [0, 1, 1, 1]);
      assert.deepEqual(skipped.hashes, clean.hashes);
      assert.equal(skipped.state!.optimizerSteps, 3);
      const { inputs, culprit } = readDump(join(directory, "skipped"), 2);
      assert.deepEqual(inputs.map((pass) => pass.margin), [[margin]]);
      assert.match(
        culprit,
        /^map_subtract wrote .* to "subtract" \[1\]; the input "margin" had one already$/,
      );
    }));
}

Deno.test("a run that ends in spite of skipped steps says how many there were", () =>
  withDirectory(async (directory) => {
    const base = new URL("../../src/parrot/base", import.meta.url).pathname;
    const dataset = writeLines(directory, "rows.jsonl", [{ prompt: "<user> 3 5 <bot>", completion: " 8" }]);
    const options = {
      learning_rate: 1e25,
      lr_scheduler_type: "constant",
      max_steps: 3,
      output_dir: join(directory, "run"),
    };
    const { code, err } = await keel("sft", ...flags({ model: base, dataset, ...options }));
    assert.equal(code, 0, err);
    assert.match(err, /Steps skipped because a loss or a gradient was not finite: 2\. .* non_finite\./);
  }));

Deno.test("the search for the culprit leaves no gradients behind", () =>
  withDirectory(async (directory) => {
    const gpu = await openGpu(),
      run = openRun(directory, {
        config: { command: "sft", seed: 1, adapter: "", driver: "", options: {} },
      });
    const stage = run.stage("sft"), guard = openGuard(stage);
    const learner = openLearner(gpu, loadModel(gpu, golden("models/tiny-llama")));
    // Gradients of 1e25 are finite; their squares are not.
    const tape = new Tape(gpu.profile), weights = slotTensor(tape, learner.model.params, "norm");
    const factors = new Float32Array(weights.shape[0]).fill(1e25);
    const loss = sum(tape, multiply(tape, weights, tape.input("factors", weights.shape)));
    tape.output("loss", loss);
    tape.backward(loss, tape.input("one", [1]));
    const plan = compile({ gpu }, tape), inputs = { factors, one: new Float32Array([1]) };
    const settings = {
      learningRate: 1,
      adamBeta1: 0.9,
      adamBeta2: 0.999,
      adamEpsilon: 1e-8,
      weightDecay: 0,
      maxGradNorm: 1,
    };
    const out = await plan.run(inputs);
    assert.ok(Number.isFinite(out.loss[0]));
    assert.equal((await learner.step(settings, out.loss[0])).skipped, true);
    await guard.examine(7, [{ plan, inputs }], [learner]);
    assert.ok((await readFloats(gpu, learner.model.params.training!.gradients)).every((x) => x === 0));
    assert.equal(readDump(directory, 7).culprit, "no single kernel: the sum over the batch overflowed");
    run.close();
    gpu.close();
  }));

Deno.test("only steps in a row end a run, and a skipped step is no time for a checkpoint", () =>
  withDirectory((directory) => {
    const run = openRun(directory, {
      config: { command: "sft", seed: 1, adapter: "", driver: "", options: {} },
    });
    const guard = openGuard(run.stage("sft"));
    for (const [step, skipped] of [true, true, false, true, true].entries()) {
      guard.count(step + 1, skipped);
      assert.equal(guard.saveDue(step + 1, 1, 9), !skipped);
    }
    assert.equal(guard.saveDue(9, 1, 9), true);
    assert.deepEqual(guard.state, { skipped: 4, inARow: 2 });
    assert.throws(() => guard.count(6, true), /Step 6: .* 3 steps in a row/);
    run.close();
  }));
