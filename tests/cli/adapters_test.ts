/** Training through adapters as a person does it: results, resuming, continuing, and what PPO's reference is. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { BASE, command, filesOf, METHODS, ROWS, runs } from "./adapter_runs.ts";
import { flags, keel, startKeel, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

/** Values of a metric, step by step. */
function metric(run: string, name: string): number[] {
  const store = openStore(join(run, "run.db"));
  const values = store.metrics().filter((row) => row.name === name).map(({ value }) => value);
  store.close();
  return values;
}

/** Hashes of all files of the result and of a checkpoint, and everything logged. */
function fingerprint(run: string, step: number): Record<string, string> {
  const sha = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");
  const out: Record<string, string> = {};
  for (const folder of ["model", `checkpoints/step-${step}`]) {
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

/** Tensors of an adapter's directory by name. */
function tensorsOf(directory: string): Map<string, Float32Array> {
  const { tensors, read } = readSafetensors(join(directory, "adapter_model.safetensors"));
  return new Map([...tensors.keys()].sort().map((name) => [name, read(name)]));
}

for (const method of METHODS) {
  Deno.test(`keel ${method} --use_peft, killed and resumed, ends with the bits of an undisturbed run: a PEFT directory`, () =>
    withDirectory(async (directory) => {
      const whole = join(directory, "whole"), killed = join(directory, "killed");
      // Steps of SFT are so short that a few would be done before the signal comes.
      const steps = method === "ppo" ? 6 : 24, more = { max_steps: steps };
      await runs(command(method, directory, whole, more));
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

      const child = startKeel(command(method, directory, killed, more));
      let err = "";
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
        err += chunk;
        if (err.includes(`${method} 3/${steps}`)) child.kill("SIGKILL");
      }
      assert.equal((await child.status).signal, "SIGKILL", err);
      await child.stdout.cancel();
      assert.ok(!existsSync(join(killed, "model")), "it was not killed in its middle");
      assert.match(
        await runs([...command(method, directory, killed, more), "--resume"]),
        new RegExp(`${method} ${steps}/${steps}`),
      );
      assert.deepEqual(fingerprint(killed, steps), fingerprint(whole, steps));

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
    const prompts = writeLines(directory, "prompts.jsonl", [{ prompt: "q1?" }]);
    assert.equal((await keel("sample", ...flags({ model: run, input: prompts, max_new_tokens: 3 }))).code, 0);
  }));
