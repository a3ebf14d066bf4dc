/** Models and adapters to transformers and PEFT and back: one Python process for all. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openGpu } from "../../src/gpu/device.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import type { Model } from "../../src/model/decoder.ts";
import { exportHuggingFace } from "../../src/model/export.ts";
import { destroyModel, loadModel, saveModel } from "../../src/model/load.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { documentScorer } from "../../src/sample/score.ts";
import { asset, golden, withDirectory } from "../assets.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { tinyModel } from "../cli/tiny_models.ts";
import { random } from "../kernels/helpers.ts";
import { modelsPython, modelsPythonTest } from "../python.ts";
import { largestDifference, runBatch } from "./batch.ts";

const SCRIPT = fileURLToPath(new URL("../python/round_trip.py", import.meta.url));
const ROWS = 2, TIME = 12;

/** Largest difference of logits: 16 times what float32 rounding makes of the goldens' at most. */
const ATOL = 1e-4;

/** Directories of the golden models: three are committed, the others may be absent. */
function goldenModels(): Map<string, string> {
  const assets = asset("goldens/models");
  const folder = existsSync(assets) ? assets : golden("models");
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return new Map(names.map((name) => [name, join(folder, name)]));
}

/** Token ids [rows, time] below a vocabulary's size. */
function inputIds(vocab: number): number[][] {
  const { below } = random(vocab);
  return Array.from({ length: ROWS }, () => Array.from({ length: TIME }, () => 3 + below(vocab - 3)));
}

/** Logits [rows · time, vocab] of the inputs, or a reward model's scores. */
async function logitsOf(gpu: Gpu, model: Model): Promise<Float32Array> {
  const ids = inputIds(model.config.vocabSize);
  if (model.config.architecture === "reward") {
    return Float32Array.from(await documentScorer({ gpu }, model)(ids));
  }
  const flat = Int32Array.from(ids.flat());
  const batch = { ids: flat, mask: new Int32Array(flat.length).fill(1), labels: flat, shape: [ROWS, TIME] };
  return (await runBatch(gpu, model, batch)).outputs.logits;
}

/** A model, how its adapter is trained here, and how one is made there. */
interface AdapterCase {
  model: string;
  method?: "sft" | "reward";
  /** Options of `keel sft` or `keel reward`. */
  options: Record<string, unknown>;
  /** PEFT's `LoraConfig`. */
  lora: Record<string, unknown>;
}

const CASES: Record<string, AdapterCase> = {
  "LoRA": { model: "tiny-llama-tied", options: { lora_r: 3 }, lora: { r: 3, lora_alpha: 7 } },
  "rank-stabilised, all linear": {
    model: "tiny-llama",
    options: { use_rslora: true, lora_target_modules: "all-linear" },
    lora: { r: 5, use_rslora: true, target_modules: "all-linear" },
  },
  "DoRA": {
    model: "tiny-llama",
    options: { use_dora: true, lora_target_modules: "q_proj,o_proj,gate_proj,down_proj" },
    lora: { r: 4, use_dora: true, target_modules: ["k_proj", "up_proj", "down_proj"] },
  },
  "embedding and head trained whole": {
    model: "tiny-llama",
    options: { lora_modules_to_save: "embed_tokens,lm_head" },
    lora: { r: 4, target_modules: ["v_proj"], modules_to_save: ["embed_tokens", "lm_head"] },
  },
  "embedding of a tied model trained whole": {
    model: "tiny-llama-tied",
    options: { lora_modules_to_save: "embed_tokens" },
    lora: { r: 4, target_modules: ["v_proj"], modules_to_save: ["embed_tokens"], ensure_weight_tying: true },
  },
  "norms trained whole": {
    model: "tiny-llama-tied",
    options: { lora_modules_to_save: "norm,input_layernorm" },
    lora: { r: 4, target_modules: ["v_proj"], modules_to_save: ["norm", "input_layernorm"] },
  },
  "a reward model of a language model": {
    model: "tiny-llama",
    method: "reward",
    options: {},
    lora: { r: 4, task_type: "SEQ_CLS", target_modules: ["q_proj", "down_proj"] },
  },
  "a reward model of a reward model": {
    model: "tiny-llama-rm",
    method: "reward",
    options: { lora_target_modules: "all-linear", use_dora: true },
    lora: { r: 4, task_type: "SEQ_CLS", target_modules: ["v_proj"] },
  },
  "GPT-2": { model: "tiny-gpt2", options: {}, lora: { r: 4, fan_in_fan_out: true } },
  "GPT-2, DoRA, all linear": {
    model: "tiny-gpt2",
    options: { use_dora: true, lora_target_modules: "all-linear" },
    lora: { r: 4, fan_in_fan_out: true, use_dora: true, target_modules: ["c_attn", "c_fc", "c_proj"] },
  },
  "GPT-NeoX": { model: "tiny-gpt-neox", options: {}, lora: { r: 4 } },
  "Phi-3": {
    model: "tiny-phi3",
    options: { lora_target_modules: "all-linear" },
    lora: { r: 4, target_modules: ["qkv_proj", "gate_up_proj"] },
  },
  "Gemma 2": { model: "tiny-gemma2", options: { use_dora: true }, lora: { r: 4, use_dora: true } },
  "Qwen 3": {
    model: "tiny-qwen3",
    options: { lora_target_modules: "all-linear" },
    lora: { r: 4, target_modules: "all-linear" },
  },
};

/** Trains an adapter for three steps with the command line. */
async function train(
  directory: string,
  base: string,
  { method = "sft", options }: AdapterCase,
): Promise<string> {
  const rows = Array.from(
    { length: 12 },
    (_, i) =>
      method === "sft" ? { text: `${i} and ${i * i}` } : { chosen: `yes ${i}`, rejected: `no ${i * 3}` },
  );
  const output_dir = join(directory, "run");
  const common = {
    ...{ model: base, dataset: writeLines(directory, `${method}.jsonl`, rows), output_dir },
    ...{ use_peft: true, max_steps: 3, save_steps: 0, learning_rate: 3e-2, per_device_train_batch_size: 4 },
  };
  const { code, err } = await keel(method, ...flags({ ...common, ...options }));
  assert.equal(code, 0, err);
  return join(output_dir, "model");
}

modelsPythonTest(
  "models and adapters are the same in transformers and PEFT, and theirs here",
  () =>
    withDirectory(async (directory) => {
      const gpu = await openGpu(), models = goldenModels();
      const folder = (...path: string[]) => {
        const whole = join(directory, ...path);
        mkdirSync(whole, { recursive: true });
        return whole;
      };
      // 1. Whole models
      const saved: { original: string; saved: string; dtype: string }[] = [];
      for (const [name, original] of models) {
        const to = folder("saved", name), model = loadModel(gpu, original);
        await saveModel(gpu, model, to);
        destroyModel(gpu, model);
        saved.push({ original, saved: to, dtype: "F32" });
        for (const dtype of ["F16", "BF16"] as const) {
          if (dtype === "F16" && name !== "tiny-llama" && name !== "tiny-gpt2") continue;
          const half = folder(`saved-${dtype}`, name);
          exportHuggingFace(original, half, dtype);
          saved.push({ original, saved: half, dtype });
        }
      }
      // 2. Adapters that are trained here, and those that are to be made there
      const cases = Object.entries(CASES).filter(([, { model }]) => models.has(model));
      const trained: Record<string, string>[] = [], made: Record<string, unknown>[] = [];
      const ours = new Map<string, Float32Array>();
      for (const [name, one] of cases) {
        const base = tinyModel(folder("bases"), one.model, models.get(one.model));
        const adapter = await train(folder("trained", name), base, one), merged = folder("merged", name);
        exportHuggingFace(adapter, merged, "F32");
        trained.push({ name, base, adapter, merged });
        const model = loadModel(gpu, adapter);
        ours.set(name, await logitsOf(gpu, model));
        destroyModel(gpu, model);
        made.push({ name: `made: ${name}`, base, directory: folder("made", name), lora: one.lora });
      }
      // 3. There
      const vocabularies = [...models.values()].map((path) =>
        JSON.parse(Deno.readTextFileSync(join(path, "config.json"))).vocab_size as number
      );
      const job = join(directory, "job.json"),
        input_ids = Object.fromEntries(vocabularies.map((v) => [v, inputIds(v)]));
      Deno.writeTextFileSync(job, JSON.stringify({ input_ids, saved, trained, made }));
      const results = JSON.parse(await modelsPython([SCRIPT, job, directory]));
      const theirs = readSafetensors(join(directory, "logits.safetensors"));

      // 4. And back
      assert.equal(results.saved.length, saved.length);
      saved.forEach(({ saved, dtype }, i) => {
        const type = { F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype];
        assert.deepEqual(
          results.saved[i],
          { dtype: `torch.${type}`, different: {}, "same logits": true },
          saved,
        );
      });
      const worst = { trained: 0, merged: 0, "merged weights": 0, made: 0 };
      const near = (kind: keyof typeof worst, name: string, difference: number, most: number) => {
        worst[kind] = Math.max(worst[kind], difference);
        assert.ok(difference <= most, `${kind} ${name}: off by ${difference}`);
      };
      for (const [name, { lora }] of cases) {
        const want = theirs.read(name);
        near("trained", name, largestDifference(ours.get(name)!, want), ATOL);
        near("merged", name, largestDifference(theirs.read(`${name} merged`), want), ATOL);
        for (const [tensor, off] of Object.entries(results.trained[name])) {
          assert.equal(typeof off, "number", `${name}: ${tensor} ${off}`);
          near("merged weights", `${name} ${tensor}`, off as number, 1e-6);
        }
        const model = loadModel(gpu, join(directory, "made", name));
        const got = await logitsOf(gpu, model), there = theirs.read(`made: ${name}`);
        near("made", name, largestDifference(got, there), ATOL);
        // And it does something.
        const plain = loadModel(gpu, model.adapter!.base);
        if (plain.config.architecture === model.config.architecture) {
          assert.ok(
            largestDifference(await logitsOf(gpu, plain), there) > 100 * ATOL,
            `${name} ${JSON.stringify(lora)}`,
          );
        }
      }
      console.log(
        `${saved.length} models, ${cases.length} adapters each way; largest differences ${
          JSON.stringify(worst)
        }`,
      );
      gpu.close();
    }),
);
