/** Training through adapters as a person does it: results, resuming, continuing, and what PPO's reference is. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { openStore } from "../../src/run/store.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { flags, keel, startKeel, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

/** A model of 0.3 million weights with a tokenizer of words. */
const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const ROWS = Array.from({ length: 24 }, (_, i) => {
  const prompt = `<user> ${i % 9} ${(i * 5) % 8} <bot>`;
  return { prompt, completion: ` ${i % 17}`, chosen: ` ${i % 17}`, rejected: ` ${(i + 3) % 17} 2` };
});

const METHODS = ["sft", "reward", "ppo"] as const;
type Method = typeof METHODS[number];

/** A run of a method through an adapter with much dropout. */
function command(method: Method, directory: string, output_dir: string, more: Record<string, unknown> = {}) {
  const columns =
    { sft: ["prompt", "completion"], reward: ["prompt", "chosen", "rejected"], ppo: ["prompt"] }[method];
  const rows = ROWS.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([name]) => columns.includes(name)))
  );
  const options = {
    model: BASE,
    dataset: writeLines(directory, `${method}.jsonl`, rows),
    output_dir,
    use_peft: true,
    lora_r: 4,
    lora_dropout: 0.3,
    max_steps: 6,
    save_steps: 2,
    learning_rate: 3e-3,
    per_device_train_batch_size: 4,
    logging_steps: 1,
    ...(method === "ppo" &&
      { reward_model: BASE, response_length: 6, stop_token: "eos", num_mini_batches: 2 }),
    ...more,
  };
  return [method, ...flags(options)];
}

/** Runs a command line that must end well. */
async function runs(argv: string[]): Promise<string> {
  const { code, err } = await keel(...argv);
  assert.equal(code, 0, err);
  return err;
}

/** Values of a metric, step by step. */
function metric(run: string, name: string): number[] {
  const store = openStore(join(run, "run.db"));
  const values = store.metrics().filter((row) => row.name === name).map(({ value }) => value);
  store.close();
  return values;
}

/** Hashes of all files of the result and of the newest checkpoint, and everything logged. */
function fingerprint(run: string): Record<string, string> {
  const sha = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");
  const out: Record<string, string> = {};
  for (const folder of ["model", "checkpoints/step-6"]) {
    for (const { name } of Deno.readDirSync(join(run, folder))) {
      out[`${folder}/${name}`] = sha(Deno.readFileSync(join(run, folder, name)));
    }
  }
  const store = openStore(join(run, "run.db"));
  out.metrics = sha(JSON.stringify(store.metrics().map(({ step, name, value }) => [step, name, value])));
  out.samples = sha(JSON.stringify(store.samples()));
  store.close();
  return out;
}

const filesOf = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();

/** Tensors of an adapter's directory by name. */
function tensorsOf(directory: string): Map<string, Float32Array> {
  const { tensors, read } = readSafetensors(join(directory, "adapter_model.safetensors"));
  return new Map([...tensors.keys()].sort().map((name) => [name, read(name)]));
}

for (const method of METHODS) {
  Deno.test(`keel ${method} --use_peft, killed and resumed, ends with the bits of an undisturbed run: a PEFT directory`, () =>
    withDirectory(async (directory) => {
      const whole = join(directory, "whole"), killed = join(directory, "killed");
      await runs(command(method, directory, whole));
      const adapter = ["adapter_config.json", "adapter_model.safetensors"];
      const tokenizer = ["tokenizer.json", "tokenizer_config.json"];
      assert.deepEqual(filesOf(join(whole, "model")), [...adapter, ...tokenizer]);
      const value = method === "ppo"
        ? ["value_adapter_model.safetensors", "value_optimizer.safetensors"]
        : [];
      assert.deepEqual(
        filesOf(join(whole, "checkpoints/step-4")),
        [...adapter, "optimizer.safetensors", "state.json", ...tokenizer, ...value].sort(),
      );
      const config = JSON.parse(Deno.readTextFileSync(join(whole, "model/adapter_config.json")));
      const named = [config.base_model_name_or_path, config.r, config.lora_alpha, config.lora_dropout];
      assert.deepEqual(named, [BASE.replace(/\/$/, ""), 4, 32, 0.3]);
      assert.deepEqual(config.target_modules, ["q_proj", "v_proj"]);
      assert.equal(config.task_type, method === "reward" ? "SEQ_CLS" : "CAUSAL_LM");
      assert.deepEqual(config.modules_to_save, method === "reward" ? ["score"] : null);
      const names = [...tensorsOf(join(whole, "model")).keys()];
      assert.equal(
        names.filter((name) => /layers\.\d\.self_attn\.[qv]_proj\.lora_[AB]\.weight$/.test(name)).length,
        12,
      );
      assert.equal(names.length, method === "reward" ? 13 : 12);
      const before = tensorsOf(join(whole, "checkpoints/step-2")), after = tensorsOf(join(whole, "model"));
      for (const [name, values] of after) assert.notDeepEqual(values, before.get(name), name);

      const child = startKeel(command(method, directory, killed));
      let err = "";
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
        err += chunk;
        if (err.includes(`${method} 3/6`)) child.kill("SIGKILL");
      }
      assert.equal((await child.status).signal, "SIGKILL", err);
      await child.stdout.cancel();
      assert.ok(!existsSync(join(killed, "model")), "it was not killed in its middle");
      assert.match(
        await runs([...command(method, directory, killed), "--resume"]),
        new RegExp(`${method} 6/6`),
      );
      assert.deepEqual(fingerprint(killed), fingerprint(whole));

      const { out, code } = await keel("replay", whole);
      assert.deepEqual(
        [code, /^Identical: \d+ metrics, \d+ samples and \d+ files\.$/m.test(out)],
        [0, true],
        out,
      );
    }));
}

Deno.test("dropout is on in training, the same in every run of a seed, and off in evaluation", () =>
  withDirectory(async (directory) => {
    const held = writeLines(
      directory,
      "held.jsonl",
      ROWS.slice(3, 9).map(({ prompt, chosen }) => ({ prompt, completion: chosen })),
    );
    const run = async (name: string, more: Record<string, unknown>) => {
      const output = join(directory, name);
      await runs(command("sft", directory, output, { eval_dataset: held, ...more }));
      return output;
    };
    const plain = await run("plain", { lora_dropout: 0 }), dropped = await run("dropped", {});
    // B is zero at first, so what A reads has no effect on the loss yet, but on B's gradient.
    assert.equal(metric(dropped, "loss")[0], metric(plain, "loss")[0]);
    assert.notEqual(metric(dropped, "grad_norm")[0], metric(plain, "grad_norm")[0]);

    // The same again from an adapter that does something, at a rate of zero: only dropout tells the losses apart.
    const adapter = join(dropped, "model"), file = join(adapter, "adapter_config.json");
    const still = { model: adapter, use_peft: false, learning_rate: 0, shuffle_dataset: false };
    const withDropout = await run("with", still), again = await run("again", still);
    const config = JSON.parse(Deno.readTextFileSync(file));
    Deno.writeTextFileSync(file, JSON.stringify({ ...config, lora_dropout: 0 }));
    const without = await run("without", still);
    assert.deepEqual(metric(again, "loss"), metric(withDropout, "loss"));
    metric(without, "loss").forEach((loss, i) => assert.notEqual(metric(withDropout, "loss")[i], loss));
    assert.deepEqual(metric(withDropout, "eval_loss"), metric(without, "eval_loss"));
    const { out } = await keel("eval", "--json", "--model", adapter, "--dataset", held);
    assert.ok(Math.abs(JSON.parse(out).nll - metric(withDropout, "eval_loss")[0]) < 1e-6);
    // Another seed drops others.
    const other = await run("other", { ...still, model: join(withDropout, "model"), seed: 7 });
    assert.notDeepEqual(metric(other, "loss"), metric(withDropout, "loss"));
  }));

Deno.test("an adapter is trained on from where it was, with its own rank, and its base stays as it is", () =>
  withDirectory(async (directory) => {
    const first = join(directory, "first"), second = join(directory, "second");
    const base = Deno.readFileSync(join(BASE, "model.safetensors"));
    await runs(
      command("sft", directory, first, { max_steps: 2, lora_target_modules: "all-linear", use_dora: true }),
    );
    const model = join(first, "model");
    await runs(
      command("sft", directory, second, {
        model,
        use_peft: false,
        max_steps: 1,
        learning_rate: 0,
        lora_r: 9,
      }),
    );
    assert.deepEqual(tensorsOf(join(second, "model")), tensorsOf(model));
    const config = (run: string) => JSON.parse(Deno.readTextFileSync(join(run, "model/adapter_config.json")));
    assert.deepEqual(config(second), config(first));
    assert.equal(config(first).use_dora, true);
    assert.deepEqual(config(first).target_modules, [
      "down_proj",
      "gate_proj",
      "k_proj",
      "o_proj",
      "q_proj",
      "up_proj",
      "v_proj",
    ]);
    await runs(command("sft", directory, join(directory, "third"), { model, use_peft: false }));
    assert.notDeepEqual(tensorsOf(join(directory, "third/model")), tensorsOf(model));
    assert.deepEqual(Deno.readFileSync(join(BASE, "model.safetensors")), base);
  }));

Deno.test("PPO's reference is the base of a fresh adapter, and an existing adapter as it was", () =>
  withDirectory(async (directory) => {
    const sft = join(directory, "sft");
    await runs(command("sft", directory, sft, { learning_rate: 3e-2 }));
    for (
      const [name, more] of Object.entries({
        fresh: {},
        existing: { model: join(sft, "model"), use_peft: false },
      })
    ) {
      const run = join(directory, name);
      await runs(
        command("ppo", directory, run, {
          learning_rate: 2e-2,
          num_ppo_epochs: 1,
          num_mini_batches: 1,
          ...more,
        }),
      );
      for (const kl of ["objective/kl", "objective/kl_exact", "objective/kl_k3"]) {
        const values = metric(run, kl);
        assert.equal(values[0], 0, `${name} ${kl}`);
        if (kl !== "objective/kl") {
          values.slice(1).forEach((value) => assert.ok(value > 0, `${name} ${kl}: ${values}`));
        }
      }
      assert.equal(metric(run, "val/ratio")[0], 1);
    }
    // The policies began differently.
    assert.notEqual(
      metric(join(directory, "fresh"), "objective/entropy")[0],
      metric(join(directory, "existing"), "objective/entropy")[0],
    );
  }));

Deno.test("keel train --use_peft goes through all three stages", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), run = join(directory, "run");
    const rows = ROWS.map((_, i) => ({ prompt: `q${i}?`, chosen: ` ${i % 7}`, rejected: ` no ${i}` }));
    const { code, err } = await keel(
      "train",
      ...flags({
        model,
        dataset: writeLines(directory, "pairs.jsonl", rows),
        output_dir: run,
        use_peft: true,
        lora_target_modules: "all-linear",
        ppo_steps: 2,
        ppo_batch_size: 8,
        response_length: 5,
      }),
    );
    assert.equal(code, 0, err);
    for (const stage of METHODS) {
      const config = JSON.parse(Deno.readTextFileSync(join(run, stage, "model/adapter_config.json")));
      assert.equal(config.base_model_name_or_path, model);
      assert.equal(config.task_type, stage === "reward" ? "SEQ_CLS" : "CAUSAL_LM");
    }
    const kl = metric(run, "objective/kl_exact");
    assert.deepEqual([kl.length, kl[0], kl[1] > 0], [2, 0, true]);
    assert.deepEqual(metric(run, "val/ratio")[0], 1);
    const prompts = writeLines(directory, "prompts.jsonl", [{ prompt: "q1?" }]);
    assert.equal((await keel("sample", ...flags({ model: run, input: prompts, max_new_tokens: 3 }))).code, 0);
  }));

/** What a command line that fails says. */
async function fails(argv: string[], message: RegExp, code = 1): Promise<void> {
  const { code: got, err, out } = await keel(...argv);
  assert.match(err, message);
  assert.deepEqual([got, out], [code, ""], err);
  assert.doesNotMatch(err, /^\s+at /m);
}

Deno.test("what cannot be trained through an adapter is told", () =>
  withDirectory(async (directory) => {
    const sft = join(directory, "sft"), model = join(sft, "model");
    await runs(command("sft", directory, sft, { max_steps: 1 }));
    let n = 0;
    const refuses = (message: RegExp, more: Record<string, unknown>, method: Method = "sft", code = 1) =>
      fails(
        command(method, directory, join(directory, `bad-${n++}`), { max_steps: 1, ...more }),
        message,
        code,
      );
    for (const method of METHODS) {
      await refuses(
        /sft\/model is an adapter already\. Leave out --use_peft to go on training it, or merge it first/,
        { model },
        method,
      );
    }
    await refuses(/No module of the model is called zebra\. Expected some of .*q_proj.*down_proj/, {
      lora_target_modules: "zebra",
    });
    await refuses(/No module of the model is called v_prj\. Expected some of .*q_proj/, {
      lora_target_modules: "q_proj,v_prj",
    });
    await refuses(/modules_to_save.*zebra/, { lora_modules_to_save: "zebra" });
    // The head is the embedding.
    await refuses(/lm_head.*tied|tied.*lm_head|lm_head.*embed/, {
      lora_modules_to_save: "embed_tokens,lm_head",
    });
    await refuses(/--lora_r: got 0, expected a whole number of at least 1/, { lora_r: 0 }, "sft", 2);
    await refuses(
      /--lora_dropout: got 1, expected a number of at least 0 and below 1/,
      { lora_dropout: 1 },
      "sft",
      2,
    );
    await refuses(/--dtype: got "int4", expected one of f32, /, { dtype: "int4" }, "sft", 2);
    const { code, err } = await keel(
      ...command("sft", directory, join(directory, "whole"), {
        use_peft: false,
        dtype: "bf16",
        max_steps: 1,
      }),
    );
    assert.equal(code, 0);
    assert.match(
      err,
      /The weights of .*base.* are trained and therefore held as f32; --dtype bf16 is for frozen weights/,
    );
  }));

/** A copy of an adapter whose config or tensors are changed. */
function changedAdapter(
  from: string,
  to: string,
  config: object,
  tensors: (file: Uint8Array) => Uint8Array = (x) => x,
): string {
  Deno.mkdirSync(to);
  const read = (name: string) => Deno.readFileSync(join(from, name));
  for (const name of filesOf(from)) Deno.writeFileSync(join(to, name), read(name));
  const json = JSON.parse(new TextDecoder().decode(read("adapter_config.json")));
  Deno.writeTextFileSync(join(to, "adapter_config.json"), JSON.stringify({ ...json, ...config }));
  Deno.writeFileSync(join(to, "adapter_model.safetensors"), tensors(read("adapter_model.safetensors")));
  return to;
}

/** Renames a tensor in a safetensors file to a name of the same length, or gives it another shape. */
function edited(file: Uint8Array, change: (header: string) => string): Uint8Array {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const header = new TextDecoder().decode(file.subarray(8, 8 + length)), after = change(header);
  assert.notEqual(after, header);
  assert.equal(after.length, header.length);
  const out = file.slice();
  out.set(new TextEncoder().encode(after), 8);
  return out;
}

Deno.test("an adapter that does not fit its base, or has none, is refused by the tensor's or the base's name", () =>
  withDirectory(async (directory) => {
    const sft = join(directory, "sft"), good = join(sft, "model");
    await runs(command("sft", directory, sft, { max_steps: 1 }));
    const rows = writeLines(directory, "rows.jsonl", [{ text: "<user> 3 <bot>" }]);
    let n = 0;
    const refuses = async (message: RegExp, config: object, tensors?: (file: Uint8Array) => Uint8Array) => {
      const model = changedAdapter(good, join(directory, `bad-${n++}`), config, tensors);
      await fails(["score", "--model", model, "--input", rows], message);
      await fails(["export", "--model", model, "--output", join(directory, "out")], message);
      assert.ok(!existsSync(join(directory, "out")));
    };
    await refuses(/its base model \/nowhere\/base is not at \/nowhere\/base\. Put it there, or correct/, {
      base_model_name_or_path: "/nowhere/base",
    });
    const named = (layer: number) => `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_A.weight`;
    // There are three layers.
    await refuses(
      /layers\.1\.self_attn\.q_proj\.lora_A\.weight/,
      {},
      (file) => edited(file, (h) => h.replace(named(1), named(7))),
    );
    await refuses(/layers\.\d\.self_attn\.q_proj\.lora_[AB]\.weight/, { target_modules: ["v_proj"] });
    await refuses(/layers\.\d\.self_attn\.k_proj\.lora_[AB]\.weight/, {
      target_modules: ["q_proj", "k_proj", "v_proj"],
    });
    await refuses(/lora_[AB]\.weight" has the shape \[.*Expected \[/, { r: 5 });
    await refuses(/lora_magnitude_vector/, { use_dora: true });
    await refuses(/"use_qalora".*keel does not compute this/, { use_qalora: true });
    await refuses(/"peft_type".*"LORA"|peft_type/, { peft_type: "IA3" });
  }));

assetTest(
  "Phi-3 has no usual modules, which is told before anything else",
  () =>
    withDirectory(async (directory) => {
      const model = tinyModel(directory, "tiny-phi3", asset("goldens/models/tiny-phi3"));
      const bad = command("sft", directory, join(directory, "run"), { model, max_steps: 1 });
      await fails(
        bad,
        /There is no usual choice of modules to adapt for phi3\. Name them, e\.g\. --lora_target_modules all-linear/,
      );
      const small = ["--gpu_memory", "0.00001"];
      await fails(
        [...command("sft", directory, join(directory, "small"), { model, use_peft: false }), ...small],
        /This needs \d+ MB of memory .*but there are/,
      );
      await runs(
        command("sft", directory, join(directory, "good"), {
          model,
          max_steps: 1,
          lora_target_modules: "all-linear",
        }),
      );
    }),
);
