import assert from "node:assert/strict";
import { join } from "node:path";
import { parseOptions } from "../../src/cli/options.ts";
import { UsageError } from "../../src/cli/usage_error.ts";
import { ppoSchema } from "../../src/train/options/ppo.ts";
import { sftSchema } from "../../src/train/options/sft.ts";
import { z } from "zod";

const REQUIRED: [string, string[]][] = [
  ["model", ["m"]],
  ["dataset", ["d"]],
  ["output_dir", ["o"]],
];

/** Options of sft from flags given as texts. */
const sft = (flags: Record<string, string | string[]>, config?: string) =>
  parseOptions(
    sftSchema,
    new Map([...REQUIRED, ...Object.entries(flags).map(([k, v]): [string, string[]] => [k, [v].flat()])]),
    config,
  );

/** Options of sft from the text of a configuration file. */
function sftConfig(text: string, flags: Record<string, string> = {}, name = "config.yaml") {
  const directory = Deno.makeTempDirSync({ prefix: "keel-test-" });
  try {
    Deno.writeTextFileSync(join(directory, name), text);
    return parseOptions(
      sftSchema,
      new Map(Object.entries(flags).map(([k, v]) => [k, [v]])),
      join(directory, name),
    );
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

const MINIMAL = "model_name_or_path: m\ndataset_name: d\noutput_dir: o\n";

Deno.test("every option is there, with TRL's default where none was given", () => {
  const { options } = sft({});
  assert.equal(options.modelNameOrPath, "m");
  assert.equal(options.learningRate, 2e-5);
  assert.equal(options.maxLength, 1024);
  assert.ok("saveTotalLimit" in options && options.saveTotalLimit === undefined);
  assert.deepEqual(Object.keys(options).sort(), Object.keys(sftSchema.shape).sort());
});

Deno.test("texts become numbers, booleans and none", () => {
  const { options } = sft({
    learning_rate: "1e-4",
    max_steps: "1_000",
    packing: "true",
    shuffle_dataset: "False",
    max_length: "none",
    completion_only_loss: "none",
  });
  assert.deepEqual(
    [options.learningRate, options.maxSteps, options.packing, options.shuffleDataset, options.maxLength],
    [1e-4, 1000, true, false, null],
  );
  assert.equal(options.completionOnlyLoss, undefined);
});

Deno.test("the last of a repeated flag holds", () => {
  assert.equal(sft({ learning_rate: ["1", "2"] }).options.learningRate, 2);
});

Deno.test("lists take commas and repetitions", () => {
  const schema = z.strictObject({
    names: z.array(z.string()).default([]),
    sizes: z.array(z.number()).default([1]),
  });
  const parse = (flags: [string, string[]][]) => parseOptions(schema, new Map(flags)).options;
  assert.deepEqual(parse([["names", ["a,b", "c"]], ["sizes", ["1, 2"]]]), {
    names: ["a", "b", "c"],
    sizes: [1, 2],
  });
  assert.deepEqual(parse([]), { names: [], sizes: [1] });
});

Deno.test("every wrong option is listed with what was got and expected", () => {
  assert.throws(
    () => parseOptions(ppoSchema, new Map([["lam", ["2"]], ["kl_estimator", ["k4"]], ["gamma", [""]]])),
    (error: Error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.message, /options are wrong:/);
      assert.match(error.message, /--lam: got 2, expected a number of at least 0 and of at most 1\./);
      assert.match(
        error.message,
        /--kl_estimator: got "k4", expected one of k1, k2, k3, abs, exact, kl, mse, full\./,
      );
      assert.match(error.message, /--gamma: got "", expected a number/);
      assert.match(error.message, /--output_dir is missing\. Expected a path\./);
      return true;
    },
  );
});

Deno.test("an address without its beginning is told what it lacks", () => {
  assert.throws(
    () => parseOptions(ppoSchema, new Map([["reward_url", ["localhost:80"]]])),
    /--reward_url: got "localhost:80", expected an address that begins with http:\/\/ or https:\/\/\./,
  );
});

Deno.test("an unknown flag is an error that names the nearest", () => {
  assert.throws(
    () => sft({ learning_rat: "1" }),
    /--learning_rat is not an option.*Did you mean learning_rate\?/,
  );
  assert.throws(
    () => sft({ zzzzzzzzzz: "1" }),
    (error: Error) => !error.message.includes("Did you mean"),
  );
});

Deno.test("a file gives options in snake or camel case, and flags override it", () => {
  const text = MINIMAL + "learning_rate: 1e-5\nmaxSteps: 7\nsave_total_limit: null\nmax_length: null\n";
  const { options, warnings } = sftConfig(text, { learning_rate: "3e-5" });
  assert.deepEqual([options.learningRate, options.maxSteps, options.maxLength], [3e-5, 7, null]);
  assert.deepEqual(warnings, []);
  const json = sftConfig(
    '{"model": "m", "dataset": "d", "outputDir": "o", "packing": true}',
    {},
    "config.json",
  );
  assert.equal(json.options.packing, true);
});

Deno.test("a value of the wrong type in a file is an error that names the file", () => {
  assert.throws(
    () => sftConfig(MINIMAL + 'learning_rate: "fast"\npacking: 1\n'),
    /config\.yaml: learning_rate: got "fast", expected a number[^]*config\.yaml: packing: got 1, expected true or false/,
  );
});

Deno.test("a file that cannot be read or is no mapping is wrong usage", () => {
  assert.throws(() => sftConfig("- a\n- b\n"), /expected a mapping/);
  assert.throws(() => sftConfig("a: [1\n"), UsageError);
  assert.throws(
    () => sft({}, "/nowhere/config.yaml"),
    /Cannot read \/nowhere\/config\.yaml: the file does not exist/,
  );
});

Deno.test("one option under two names in a file is an error", () => {
  assert.throws(() => sftConfig(MINIMAL + "model: other\n"), /model: this option is there twice/);
});

Deno.test("fields of TRL without a meaning here warn once with the reason", () => {
  const { warnings } = sftConfig(
    MINIMAL +
      "bf16: true\nrun_name: mine\nvllm_mode: colocate\ngradient_checkpointing_kwargs: {use_reentrant: false}\n",
  );
  assert.equal(warnings.length, 4);
  assert.match(warnings[0], /bf16 has no effect: arithmetic is f32 here\./);
});

Deno.test("fields of TRL that would change the numbers are refused, unless they ask for what keel does", () => {
  assert.throws(
    () => sftConfig(MINIMAL + "optim: adafactor\n"),
    /"adafactor" is not supported; the optimiser is AdamW/,
  );
  assert.equal(sftConfig(MINIMAL + "optim: adamw_torch\nlabel_smoothing_factor: 0\n").warnings.length, 2);
  assert.throws(
    () => sftConfig(MINIMAL + "load_in_4bit: true\n"),
    /load_in_4bit: true is not supported; give a GGUF file of 4 bits as the model/,
  );
  assert.throws(() => sft({ load_in_8bit: "true" }), /hold frozen weights with --dtype q8_0/);
});

Deno.test("adapters and the form of frozen weights have TRL's names and defaults", () => {
  const { options, warnings } = sftConfig(
    MINIMAL +
      "use_peft: true\nlora_r: 8\nlora_target_modules: [q_proj, v_proj]\nlora_modules_to_save: lm_head\ndtype: bfloat16\n" +
      "lora_task_type: CAUSAL_LM\nattn_implementation: eager\n",
  );
  assert.deepEqual(
    [
      options.usePeft,
      options.loraR,
      options.loraAlpha,
      options.loraDropout,
      options.useRslora,
      options.useDora,
    ],
    [true, 8, 32, 0.05, false, false],
  );
  assert.deepEqual([options.loraTargetModules, options.loraModulesToSave], [["q_proj", "v_proj"], [
    "lm_head",
  ]]);
  assert.equal(options.dtype, "bf16");
  assert.equal(warnings.length, 2);
  assert.deepEqual(sft({ lora_target_modules: "all-linear" }).options.loraTargetModules, ["all-linear"]);
  const forms = { auto: "as-stored", float16: "f16", float32: "f32", q8_0: "q8_0" };
  for (const [name, form] of Object.entries(forms)) assert.equal(sft({ dtype: name }).options.dtype, form);
  assert.equal(sft({ torch_dtype: "float32" }).options.dtype, "f32");
  assert.throws(() => sft({ dtype: "int4" }), /--dtype: got "int4", expected one of f32, float32, f16/);
});

Deno.test("report_to is a name or a list of names, as in transformers; what keel has not is refused by name", () => {
  const flag = (...texts: string[]) => sft({ report_to: texts }).options.reportTo;
  const file = (value: string) => sftConfig(MINIMAL + `report_to: ${value}\n`);
  const all = ["tensorboard", "jsonl", "wandb"];
  assert.deepEqual(sft({}).options.reportTo, []);
  assert.deepEqual([flag("none"), flag("None"), flag("all")], [[], [], all]);
  assert.deepEqual([flag("wandb,jsonl"), flag("jsonl", "wandb")], [["jsonl", "wandb"], ["jsonl", "wandb"]]);
  for (const none of ["null", "none", "[]", "[none]"]) {
    assert.deepEqual(file(none).options.reportTo, [], none);
  }
  assert.deepEqual(file("all").options.reportTo, all);
  assert.deepEqual(file("[tensorboard, wandb]").options.reportTo, ["tensorboard", "wandb"]);
  assert.deepEqual(file("tensorboard").warnings, []);
  assert.throws(
    () => flag("tensorboard,mlflow"),
    /--report_to: got \["tensorboard","mlflow"\], expected a list, each one of tensorboard, jsonl, wandb, all, none\./,
  );
  assert.throws(() => file("comet_ml"), /config\.yaml: report_to: got "comet_ml", expected a list/);
  assert.match(
    file("none\nrun_name: x").warnings.join(),
    /run_name has no effect: a run has the name of its output_dir/,
  );
});

Deno.test("a warm-up below one step is a share of all steps, as in transformers 5", () => {
  const { options } = sft({ warmup_steps: "0.1" });
  assert.deepEqual([options.warmupSteps, options.warmupRatio], [0, 0.1]);
  assert.throws(() => sft({ warmup_steps: "1.5" }), /--warmup_steps: got 1.5, expected a whole number/);
});

Deno.test("defaults are those of TRL's configurations", () => {
  const path = new URL("../goldens/trl/config_defaults.json", import.meta.url);
  const golden = JSON.parse(Deno.readTextFileSync(path));
  const { options } = sft({});
  for (
    const name of [
      "learning_rate",
      "logging_steps",
      "max_length",
      "packing",
      "packing_strategy",
      "loss_type",
    ]
  ) {
    const own = name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
    assert.deepEqual(options[own], golden.SFTConfig[name], name);
  }
});
