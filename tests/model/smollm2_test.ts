/**
 * A trained model out of a GGUF file: SmolLM2-135M-Instruct, its weights held as they are stored, against PyTorch on the same
 * numbers.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { rowStride } from "../../kernels/kernel.ts";
import { packBatch } from "../../src/data/batches.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headOf } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { isAdapterDirectory } from "../../src/model/peft.ts";
import { openStore } from "../../src/run/store.ts";
import { openGenerator } from "../../src/sample/generate.ts";
import { score } from "../../src/sample/score.ts";
import { logits } from "../../src/tape/ops/head.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { asset, withDirectory } from "../assets.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { smollm2Test } from "../smollm2.ts";

interface GoldenPrompt {
  text: string;
  ids: number[];
  top20_ids: number[];
  top20_logits: number[];
  token_logprobs: number[];
  mean_nll: number;
  greedy_24_ids: number[];
  greedy_24_gap: number[];
  noise: Record<"logits_max" | "top20_max" | "mean_nll" | "logprob_max", number>;
}

smollm2Test(
  "SmolLM2 has PyTorch's logits, log-probabilities and greedy text, read as it is stored",
  async (path) => {
    const { prompts } = JSON.parse(readFileSync(asset("goldens/smollm2/smollm2.json"), "utf8")) as {
      prompts: GoldenPrompt[];
    };
    const gpu = await openGpu(), workspace = { gpu };
    const model = loadModel(gpu, path, { dtype: "as-stored" });
    const tokenizer = loadTokenizer(path);
    const documents = prompts.map(({ ids }) => ids);
    prompts.forEach(({ text, ids }) =>
      assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids)
    );

    const packed = packBatch(documents), tape = new Tape(gpu.profile);
    const hidden = decoder(tape, model, batchInputs(tape, packed.tokens), { frozen: true });
    tape.output("logits", logits(tape, hidden, headOf(tape, model, true)).logits);
    const out = await compile(workspace, tape).run({ ...packedInputs(packed) });
    const ld = rowStride(model.config.vocabSize);
    const scores = await score(workspace, model, documents);
    let worst = 0;
    prompts.forEach((prompt, i) => {
      const at = (packed.first[i] + packed.lengths[i] - 1) * ld;
      const row = out.logits.subarray(at, at + model.config.vocabSize);
      prompt.top20_ids.forEach((id, k) => {
        const difference = Math.abs(row[id] - prompt.top20_logits[k]);
        worst = Math.max(worst, difference / (16 * prompt.noise.top20_max));
      });
      const best = Array.from(row, (value, id) => ({ value, id })).sort((a, b) => b.value - a.value);
      assert.equal(best[0].id, prompt.top20_ids[0]);
      prompt.token_logprobs.forEach((want, t) => {
        worst = Math.max(worst, Math.abs(scores[i].logprobs[t] - want) / (16 * prompt.noise.logprob_max));
      });
      const nll = -scores[i].logprobs.reduce((a, b) => a + b, 0) / scores[i].logprobs.length;
      worst = Math.max(worst, Math.abs(nll - prompt.mean_nll) / Math.max(16 * prompt.noise.mean_nll, 1e-5));
    });
    console.log(`SmolLM2: worst ${worst.toFixed(3)} of 16 times PyTorch's own noise`);
    assert.ok(worst <= 1);

    const completions = await openGenerator(workspace, model).generate(
      documents.map((ids, i) => ({ ids, samples: [i] })),
      { temperature: 0, topK: 0, topP: 1, stopIds: [], maxNewTokens: 24, seed: 1, stream: 0 },
    );
    completions.forEach(({ ids }, i) => {
      const { greedy_24_ids: want, greedy_24_gap: gap } = prompts[i];
      // The golden's greedy text forbids the end token; where that decides, it goes its own way.
      const parted = ids.findIndex((id, t) => id !== want[t]);
      if (parted >= 0) {
        assert.equal(
          ids[parted],
          model.config.eosIds[0],
          `prompt ${i} parts at token ${parted}, gap ${gap[parted]}`,
        );
      }
    });
    gpu.close();
  },
);

smollm2Test("SmolLM2 is loaded as stored within 1.6 times the size of its file", async (path) => {
  if (Deno.build.os !== "linux") return;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", new URL("load_memory.ts", import.meta.url).pathname, path],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const bytes = Number(new TextDecoder().decode(stdout)), { size } = Deno.statSync(path);
  console.log(`SmolLM2 as stored: ${(bytes / size).toFixed(2)} times its file`);
  assert.ok(bytes < 1.6 * size, `${bytes} bytes for a file of ${size}`);
});

const STEPS = {
  use_peft: true,
  max_steps: 5,
  logging_steps: 1,
  per_device_train_batch_size: 1,
  max_length: 96,
  learning_rate: 1e-3,
};

/** Runs a stage of five steps on the model and returns the losses. */
async function lossesOf(stage: string, path: string, directory: string, rows: unknown[]): Promise<number[]> {
  const dataset = writeLines(directory, "rows.jsonl", rows as Record<string, unknown>[]);
  const output_dir = join(directory, "run");
  const options = { ...STEPS, model: path, dataset, output_dir };
  const { code, err } = await keel(stage, ...flags(options));
  assert.equal(code, 0, err);
  assert.match(err, /memory: .* needed \(weights \d+ MB, adapters 4 MB/);
  const store = openStore(join(output_dir, "run.db"));
  const losses = store.metrics(stage, "loss").map(({ value }) => value);
  store.close();
  assert.ok(isAdapterDirectory(join(output_dir, "model")));
  return losses;
}

smollm2Test(
  "five steps of SFT with LoRA on GSM8K, straight from the quantised file",
  (path) =>
    withDirectory(async (directory) => {
      const rows = gunzipLines(asset("data/gsm8k-test.jsonl.gz"), 6).map(({ question, answer }) => ({
        prompt: [{ role: "user", content: question }],
        completion: [{ role: "assistant", content: answer }],
      }));
      // The same row at every step: what is learned shows after a few.
      const losses = await lossesOf("sft", path, directory, Array.from({ length: 5 }, () => rows[1]));
      assert.equal(losses.length, 5);
      assert.ok(losses.every(Number.isFinite) && losses[4] < losses[0], `${losses}`);
    }),
);

smollm2Test(
  "five steps of a reward model with LoRA on hh-rlhf, straight from the quantised file",
  (path) =>
    withDirectory(async (directory) => {
      const rows = gunzipLines(asset("data/hh-rlhf-harmless-base-test.jsonl.gz"), 400)
        .filter(({ chosen, rejected }) => String(chosen).length < 250 && String(rejected).length < 250);
      const losses = await lossesOf("reward", path, directory, Array.from({ length: 5 }, () => rows[0]));
      assert.equal(losses.length, 5);
      assert.ok(losses.every(Number.isFinite) && losses[4] < losses[0], `${losses}`);
    }),
);

/** The first rows of a gzipped file of JSON lines. */
function gunzipLines(path: string, count: number): Record<string, unknown>[] {
  return gunzipSync(readFileSync(path)).toString().split("\n").slice(0, count).map((line) =>
    JSON.parse(line)
  );
}
