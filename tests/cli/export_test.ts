/** `keel export`: every form of a whole model and of an adapter, and that nothing is lost on the way. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { openGguf } from "../../src/model/open_gguf.ts";
import { openModel } from "../../src/model/open.ts";
import { withDirectory } from "../assets.ts";
import { flags, keel, readLines, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

const TEXTS = ["Once upon a time", "to be", "3 + 4 = 7"].map((text) => ({ text }));

/** Log-probabilities of some texts. */
async function logprobs(directory: string, model: string): Promise<number[]> {
  const input = writeLines(directory, "texts.jsonl", TEXTS), output = join(directory, "scores.jsonl");
  const { code, err } = await keel("score", ...flags({ model, input, output }));
  assert.equal(code, 0, err);
  return readLines<{ logprobs: number[] }>(output).flatMap((row) => row.logprobs);
}

const furthest = (a: number[], b: number[]) => {
  assert.equal(a.length, b.length);
  return Math.max(...a.map((x, i) => Math.abs(x - b[i])));
};

/** Exports and returns what was said. */
async function exported(model: string, output: string, ...more: unknown[]): Promise<string> {
  const { code, out, err } = await keel("export", "--model", model, "--output", output, ...more);
  assert.deepEqual([code, out], [0, `${output}\n`], err);
  return err;
}

/** An adapter that does something, trained for a few steps with checkpoints. */
async function adapterRun(directory: string, model: string): Promise<string> {
  const output_dir = join(directory, "run");
  const { code, err } = await keel(
    "sft",
    ...flags({
      ...{ model, output_dir, dataset: writeLines(directory, "train.jsonl", TEXTS) },
      ...{ use_peft: true, lora_target_modules: "all-linear", use_dora: true },
      ...{ max_steps: 3, save_steps: 1, learning_rate: 3e-2 },
    }),
  );
  assert.equal(code, 0, err);
  return output_dir;
}

const filesOf = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();

Deno.test("a whole model is written in every form, and read again with its numbers", () =>
  withDirectory(async (directory) => {
    for (const name of ["tiny-llama", "tiny-llama-tied"]) {
      const model = tinyModel(directory, name), want = await logprobs(directory, model);
      const forms: [file: string, dtype: string | undefined, most: number][] = [
        ["plain", undefined, 0],
        ["half", "f16", 0.03],
        ["brain", "bf16", 0.3],
        ["plain.gguf", "f32", 0],
        ["half.gguf", "f16", 0.03],
        ["eight.gguf", "q8_0", 0.3],
      ];
      for (const [file, dtype, most] of forms) {
        const output = join(directory, "out", `${name}-${file}`);
        const said = await exported(model, output, ...(dtype ? ["--dtype", dtype] : []));
        assert.match(said, /^[\d,]+ parameters\.$/m);
        const off = furthest(await logprobs(directory, output), want);
        assert.ok(most === 0 ? off === 0 : off > 0 && off <= most, `${name} ${file}: ${off}`);
      }
      const back = join(directory, `${name}-back`);
      await exported(join(directory, "out", `${name}-plain.gguf`), back);
      assert.equal(furthest(await logprobs(directory, back), want), 0);
      assert.ok(
        ["config.json", "model.safetensors", "tokenizer.json"].every((file) => filesOf(back).includes(file)),
      );
    }
    // Rows of 60 numbers are no blocks of 32.
    const said = await exported(
      join(directory, "tiny-llama"),
      join(directory, "again.gguf"),
      "--dtype",
      "q8_0",
    );
    assert.match(said, /\d+ matrices whose rows are no multiple of 32 are stored as F16/);
    const rm = tinyModel(directory, "tiny-llama-rm");
    await exported(rm, join(directory, "rm"));
    const read = (path: string) => Deno.readFileSync(join(path, "model.safetensors"));
    assert.deepEqual(openModel(join(directory, "rm")).config, openModel(rm).config);
    assert.equal(read(join(directory, "rm")).length > 1e5, true);
  }));

Deno.test("an adapter is merged, or written alone with a name for its base; a run and its checkpoints are as good", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), run = await adapterRun(directory, model);
    const want = await logprobs(directory, join(run, "model"));
    assert.ok(furthest(want, await logprobs(directory, model)) > 0.05);
    const out = (name: string) => join(directory, `out-${name}`);
    await exported(run, out("merged"));
    assert.ok(furthest(await logprobs(directory, out("merged")), want) < 1e-4);
    assert.ok(!existsSync(join(out("merged"), "adapter_config.json")));
    for (const dtype of ["f32", "q8_0"]) {
      await exported(run, out(`${dtype}.gguf`), "--dtype", dtype);
      const from = openGguf(out(`${dtype}.gguf`));
      await exported(out("merged"), out(`whole-${dtype}.gguf`), "--dtype", dtype);
      const whole = openGguf(out(`whole-${dtype}.gguf`));
      assert.deepEqual([...from.weights.tensors.keys()], [...whole.weights.tensors.keys()]);
      for (const name of whole.weights.tensors.keys()) {
        assert.deepEqual(from.weights.read(name), whole.weights.read(name), name);
      }
    }

    await exported(run, out("adapter"), "--format", "peft", "--base_model", "org/name");
    const config = JSON.parse(Deno.readTextFileSync(join(out("adapter"), "adapter_config.json")));
    assert.deepEqual([config.base_model_name_or_path, config.use_dora], ["org/name", true]);
    assert.deepEqual(filesOf(out("adapter")), [
      "adapter_config.json",
      "adapter_model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    await exported(join(run, "model"), out("here"), "--format", "peft");
    assert.equal(furthest(await logprobs(directory, out("here")), want), 0);

    // The last step's checkpoint is the result; an earlier one is not.
    await exported(`${run}@3`, out("three"), "--format", "peft");
    assert.deepEqual(filesOf(out("three")), filesOf(out("here")));
    assert.equal(furthest(await logprobs(directory, out("three")), want), 0);
    await exported(join(run, "checkpoints/step-1"), out("one"));
    assert.ok(furthest(await logprobs(directory, out("one")), want) > 0.01);

    const { out: json } = await keel("export", "--json", "--model", run, "--output", out("json"));
    assert.deepEqual(JSON.parse(json), { output: out("json"), parameters: 100620, notes: [] });
  }));

Deno.test("what is there is replaced only when asked to, when the new is whole, and never what is exported", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), run = await adapterRun(directory, model);
    const refuses = async (message: RegExp, code: number, ...argv: unknown[]) => {
      const got = await keel("export", ...argv);
      assert.match(got.err, message);
      assert.deepEqual([got.code, got.out], [code, ""], got.err);
      assert.doesNotMatch(got.err, /^\s+at /m);
    };
    const output = join(directory, "tiny"), whole = ["--model", model, "--output", output];
    await exported(model, output);
    const before = filesOf(output), all = filesOf(directory);
    Deno.writeTextFileSync(join(output, "mine.txt"), "mine");
    await refuses(/There is something at .*tiny already\. Give --overwrite to replace it/, 1, ...whole);
    // Wrong usage, or a failure in its middle, takes nothing away.
    await refuses(
      /A GGUF file is written as f32, f16 or q8_0, not as bf16/,
      2,
      ...whole,
      "--overwrite",
      "--format",
      "gguf",
      "--dtype",
      "bf16",
    );
    await refuses(
      /A Hugging Face directory is written as f32, f16 or bf16\. For q8_0 give --format gguf/,
      2,
      ...whole,
      "--overwrite",
      "--dtype",
      "q8_0",
    );
    await refuses(
      /--base_model names the base of an adapter\. Give --format peft/,
      2,
      ...whole,
      "--overwrite",
      "--base_model",
      "x",
    );
    await refuses(
      /Cannot export .*tiny-llama as an adapter: it is a whole model/,
      1,
      ...whole,
      "--overwrite",
      "--format",
      "peft",
    );
    await refuses(
      /Adapters are written as they are, in f32\. Leave out --dtype/,
      2,
      "--model",
      run,
      "--output",
      output,
      "--format",
      "peft",
      "--dtype",
      "f16",
    );
    const broken = tinyModel(join(directory, "broken"), "tiny-llama");
    const file = Deno.readFileSync(join(broken, "model.safetensors"));
    Deno.writeFileSync(join(broken, "model.safetensors"), file.subarray(0, 5000));
    await refuses(
      /Cannot read .*model\.safetensors/,
      1,
      "--model",
      broken,
      "--output",
      output,
      "--overwrite",
    );
    assert.deepEqual(filesOf(output), [...before, "mine.txt"].sort());
    assert.deepEqual(filesOf(directory).filter((name) => name !== "broken"), all);

    await exported(model, output, "--overwrite");
    assert.deepEqual(filesOf(output), before);
    for (const target of [model, directory]) {
      await refuses(
        /Cannot replace .*: it is what is exported/,
        1,
        "--model",
        model,
        "--output",
        target,
        "--overwrite",
      );
    }
    await refuses(
      /Cannot replace .*tiny-llama: it is the adapter's base/,
      1,
      "--model",
      run,
      "--output",
      model,
      "--overwrite",
    );
    assert.ok(existsSync(join(model, "model.safetensors")));
    // A name that begins alike is another.
    await exported(`${model}/`, join(directory, "tiny-ll"));
    await exported(model, join(directory, "tiny-ll"), "--overwrite");
  }));
