/** Adapters that cannot be made, or do not fit: what is said, by which name. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { command, filesOf, type Method, METHODS, runs } from "./adapter_runs.ts";
import { keel, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

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
    await refuses(
      /No module of the model is called zebra, to be trained whole\. Expected some of embed_tokens, .*norm/,
      { lora_modules_to_save: "zebra" },
    );
    // The head is the embedding.
    await refuses(/No module of the model is called lm_head.*Its head is its embedding, so name that/, {
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
    // PEFT's own way with a model whose head is its embedding: the head stays as it was.
    const tied = join(directory, "tied");
    await runs(command("sft", directory, tied, { max_steps: 1, lora_modules_to_save: "embed_tokens" }));
    const config = JSON.parse(Deno.readTextFileSync(join(tied, "model/adapter_config.json")));
    assert.deepEqual([config.ensure_weight_tying, config.modules_to_save], [true, ["embed_tokens"]]);
    const untied = changedAdapter(join(tied, "model"), join(directory, "untied"), {
      ensure_weight_tying: false,
    });
    await fails(
      ["score", "--model", untied, "--input", rows],
      /trains the embedding but not the head.*"ensure_weight_tying" is false.*keel does not compute this/,
    );
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
