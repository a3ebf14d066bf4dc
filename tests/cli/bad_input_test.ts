/** Bad input, through the real program: what was got, what was expected, what to do; and nothing is lost. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { initialWeights } from "../../src/model/init.ts";
import { saveWeights } from "../../src/model/load.ts";
import { PARROT_CONFIG } from "../../src/parrot/datasets.ts";
import { lockRun } from "../../src/run/lock.ts";
import { golden, withDirectory } from "../assets.ts";
import { flags, keel, type Outcome, spawnKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

/** A prompt and answers in the words of the small model that is part of keel. */
const PROMPT = "<user> 3 5 <bot>";
const PAIR = { prompt: PROMPT, chosen: " 8", rejected: " 9" };
const ROWS: Record<string, unknown> = {
  sft: { prompt: PROMPT, completion: " 8" },
  reward: PAIR,
  ppo: { prompt: PROMPT },
};

/** The command fails with 1 (or another code) and one message, without a stack trace. */
function fails({ code, out, err }: Outcome, message: RegExp, expectedCode = 1): void {
  assert.match(err, message);
  assert.equal(code, expectedCode, err);
  assert.doesNotMatch(err, /^\s+at /m);
  assert.equal(out, "");
}

/** A copy of the small model that can be broken. */
function modelCopy(directory: string): string {
  const model = join(directory, "model");
  Deno.mkdirSync(model);
  for (const { name } of Deno.readDirSync(BASE)) Deno.copyFileSync(join(BASE, name), join(model, name));
  return model;
}

const train = (method: string, model: string, dataset: string, output_dir: string, more = {}) => [
  method,
  ...flags({
    model,
    dataset,
    output_dir,
    max_steps: 1,
    ...(method === "ppo" ? { reward_model: model, response_length: 4 } : {}),
    ...more,
  }),
];

const NO_ADAPTER: Record<string, string>[] = [
  { DENO_WEBGPU_BACKEND: "noop" },
  { VK_DRIVER_FILES: "/nonexistent", VK_ICD_FILENAMES: "/nonexistent" },
];
for (const env of NO_ADAPTER) {
  Deno.test(`without an adapter (${Object.keys(env)[0]}) every command says what to install`, () =>
    withDirectory(async (directory) => {
      const dataset = writeLines(directory, "rows.jsonl", [ROWS.sft]), output = join(directory, "run");
      for (
        const line of [train("sft", BASE, dataset, output), ["score", "--model", BASE, "--input", dataset]]
      ) {
        fails(await spawnKeel(line, env), /No GPU was found\. keel needs a Vulkan.*\n.*apt-get install/);
      }
      assert.throws(() => Deno.statSync(output), Deno.errors.NotFound);
    }));
}

Deno.test("weights that are missing, cut short, too long or lie about themselves are refused by name", () =>
  withDirectory(async (directory) => {
    const model = modelCopy(directory), path = join(model, "model.safetensors");
    const dataset = writeLines(directory, "rows.jsonl", [ROWS.sft]);
    const whole = Deno.readFileSync(path), length = Number(new DataView(whole.buffer).getBigUint64(0, true));
    const data = whole.subarray(8 + length);
    type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
    const NORM = "model.norm.weight", UP = "model.layers.0.mlp.up_proj.weight";
    const header = () => JSON.parse(new TextDecoder().decode(whole.subarray(8, 8 + length))) as Header;
    const file = (text: string, said = text.length) => {
      const bytes = new Uint8Array(8 + text.length + data.length);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(said), true);
      bytes.set(new TextEncoder().encode(text), 8);
      bytes.set(data, 8 + text.length);
      return bytes;
    };
    const lying = (change: (header: Header) => void) => {
      const changed = header();
      change(changed);
      return file(JSON.stringify(changed));
    };
    const longer = new Uint8Array(whole.length + 10);
    longer.set(whole);
    const bad: [string, Uint8Array | undefined, RegExp][] = [
      ["missing", undefined, /Cannot read the weights of .*model: expected model\.safetensors or/],
      ["empty", whole.subarray(0, 0), /model\.safetensors: it has only 0 bytes/],
      [
        "cut in its header",
        whole.subarray(0, 100),
        /its header says \d+ bytes, but the file has only 100; it may be truncated/,
      ],
      ["cut in its data", whole.subarray(0, whole.length - 50), /the file has only \d+; it may be truncated/],
      ["too long", longer, /there are 10 bytes after the last tensor/],
      [
        "with an absurd header length",
        file("{}", 2 ** 52),
        /its header says 4503599627370496 bytes\. Expected at most/,
      ],
      ["without JSON", file("{nonsense"), /its header is not valid JSON/],
      ["with offsets beyond the end", lying((h) => h[NORM].data_offsets[1] += 1e9), /norm\.weight" /],
      ["with negative offsets", lying((h) => h[NORM].data_offsets = [-4, 4]), /norm\.weight" /],
      ["with overlapping tensors", lying((h) => h[NORM].data_offsets = [0, 192]), /overlaps/],
      ["with another type", lying((h) => h[NORM].dtype = "F32"), /norm\.weight" /],
      ["with an unknown type", lying((h) => h[NORM].dtype = "F12"), /norm\.weight" .*F12/],
      ["with another shape than bytes", lying((h) => h[NORM].shape = [95]), /norm\.weight" /],
      [
        "with another shape than the config",
        lying((h) => h[UP].shape = [96, 192]),
        /up_proj\.weight.*\[96.*192\].*[Ee]xpected.*\[192.*96\]/,
      ],
      [
        "without a tensor",
        lying((h) => (h["model.final"] = h[NORM], delete h[NORM])),
        /it has no tensor "model\.norm\.weight"/,
      ],
    ];
    for (const [what, bytes, message] of bad) {
      if (bytes) Deno.writeFileSync(path, bytes);
      else Deno.removeSync(path);
      const output = join(directory, what.replaceAll(" ", "-"));
      try {
        fails(await keel(...train("sft", model, dataset, output)), /Cannot (read|use)/);
        fails(await keel("score", "--model", model, "--input", dataset), message);
      } catch (error) {
        throw new Error(`weights ${what}: ${(error as Error).message}`);
      }
    }
  }));

Deno.test("a config that is missing, broken or of another model is refused by name", () =>
  withDirectory(async (directory) => {
    const model = modelCopy(directory), path = join(model, "config.json"), text = Deno.readTextFileSync(path);
    const dataset = writeLines(directory, "rows.jsonl", [ROWS.sft]);
    const changed = (change: Record<string, unknown>) => JSON.stringify({ ...JSON.parse(text), ...change });
    const bad: [string | undefined, RegExp][] = [
      [undefined, /config\.json: the file does not exist/],
      ["{", /config\.json: it is not valid JSON/],
      [changed({ hidden_size: "wide" }), /config\.json: "hidden_size" is "wide"\. Expected/],
      [changed({ architectures: ["MambaForCausalLM"], model_type: "mamba" }), /config\.json.*[Mm]amba/],
      [changed({ intermediate_size: 200 }), /mlp.*\[192.*96\].*\[200.*96\]|mlp.*\[200.*96\].*\[192.*96\]/],
      [changed({ vocab_size: 210 }), /embed_tokens.*\[210.*96\]/],
    ];
    for (const [content, message] of bad) {
      if (content === undefined) Deno.removeSync(path);
      else Deno.writeTextFileSync(path, content);
      fails(
        await keel(...train("sft", model, dataset, join(directory, "run"), { overwrite_output_dir: true })),
        message,
      );
    }
    fails(
      await keel(...train("sft", "/no/such/model", dataset, join(directory, "other"))),
      /\/no\/such\/model.*does not exist/,
    );
  }));

Deno.test("a tokenizer with more tokens than the model has rows is refused", () =>
  withDirectory(async (directory) => {
    const small = join(directory, "small"), config = { ...PARROT_CONFIG, vocabSize: 200 };
    saveWeights(config, initialWeights(config, 1), small, { tokenizerFrom: BASE });
    const message =
      /The tokenizer in .* has 209 tokens, but the model .*small has only 200\. Use the tokenizer/;
    for (const method of ["sft", "reward", "ppo"]) {
      const dataset = writeLines(directory, `${method}.jsonl`, [ROWS[method]]);
      fails(await keel(...train(method, small, dataset, join(directory, method))), message);
    }
    const prompts = join(directory, "ppo.jsonl");
    const line = train("ppo", BASE, prompts, join(directory, "other"), { reward_model: small });
    fails(await keel(...line), message);
    const pairs = join(directory, "reward.jsonl");
    fails(
      await keel("train", ...flags({ model: small, dataset: pairs, output_dir: join(directory, "train") })),
      message,
    );
  }));

Deno.test("rows that cannot be read are named with their file and line, in every stage", () =>
  withDirectory(async (directory) => {
    const broken: [string, RegExp][] = [
      ['{"prompt": "<user>"', /rows\.jsonl line 3: it is not valid JSON/],
      ["17", /rows\.jsonl line 3: expected a JSON object/],
      ["{}", /rows\.jsonl line 3: "\w+" is missing\. Expected columns/],
      [
        '{"prompt": 5, "completion": 5, "chosen": 5, "rejected": 5}',
        /rows\.jsonl line 3: "\w+" is neither text nor/,
      ],
    ];
    for (const method of ["sft", "reward", "ppo"]) {
      const good = JSON.stringify(ROWS[method]), dataset = join(directory, "rows.jsonl");
      for (const [i, [line, message]] of broken.entries()) {
        Deno.writeTextFileSync(dataset, `${good}\n\n${line}\n${good}\n`);
        fails(await keel(...train(method, BASE, dataset, join(directory, `${method}${i}`))), message);
      }
    }
  }));

Deno.test("datasets that are missing, empty, of another kind or of which no row is left are refused by name", () =>
  withDirectory(async (directory) => {
    const long = { prompt: new Array(80).fill("3").join(" ") };
    const pairs = [PAIR], demonstrations = [ROWS.sft];
    const bad: [string, string | unknown[], RegExp][] = [
      ["sft", "", /rows\.jsonl: it has no rows/],
      ["reward", "\n \n", /rows\.jsonl: it has no rows/],
      ["sft", [{ ...long, completion: " 8" }], /without a completion within max_length/],
      ["reward", [{ ...long, chosen: " 8", rejected: " 9" }], /1 .*longer than max_length 64/],
      // The model has 64 positions, and 4 of them are for the completion.
      ["ppo", [long], /1 .*longer than max_prompt_length 60/],
      ["sft", pairs, /SFT.*preference.*[Ee]xpected|preference.*SFT/],
      ["reward", demonstrations, /reward model.*prompt-completion.*preference pairs/],
      ["ppo", [{ text: "3 5" }], /language modelling.*prompt/],
    ];
    for (const [i, [method, content, message]] of bad.entries()) {
      const dataset = join(directory, "rows.jsonl");
      if (typeof content === "string") Deno.writeTextFileSync(dataset, content);
      else writeLines(directory, "rows.jsonl", content);
      fails(await keel(...train(method, BASE, dataset, join(directory, `run${i}`))), message);
    }
    fails(
      await keel(...train("sft", BASE, "/no/rows.jsonl", join(directory, "a"))),
      /\/no\/rows\.jsonl: the file does not exist/,
    );
    fails(
      await keel(...train("sft", BASE, "rows.tsv", join(directory, "b"))),
      /rows\.tsv: expected a file that ends in/,
    );
    const unknown = writeLines(directory, "zebra.jsonl", [ROWS.sft, {
      prompt: "<user> zebra",
      completion: " 8",
    }]);
    fails(
      await keel(...train("sft", BASE, unknown, join(directory, "c"))),
      /zebra\.jsonl line 2: .*"zebra".*not in the vocabulary/,
    );
    fails(
      await keel(
        ...train("ppo", BASE, join(directory, "rows.jsonl"), join(directory, "d"), { response_length: 64 }),
      ),
      /Completions of 64 tokens leave no room .* 64 positions\. Use a smaller --response_length/,
    );
  }));

Deno.test("unknown options name the nearest one, on the command line and in a file, and exit with 2", () =>
  withDirectory(async (directory) => {
    const rows = writeLines(directory, "rows.jsonl", [ROWS.sft]), output = join(directory, "run");
    const line = train("sft", BASE, rows, output);
    fails(
      await spawnKeel([...line, "--learning_rat", "1"]),
      /--learning_rat is not an option .*Did you mean learning_rate/,
      2,
    );
    const config = join(directory, "options.yaml");
    const inFile: [string, RegExp][] = [
      ["max_step: 5\n", /options\.yaml: max_step is not an option .*Did you mean max_steps/],
      ["learning_rate: fast\n", /options\.yaml: learning_rate: got "fast", expected a number/],
      ["learning_rate: -1\n", /options\.yaml: learning_rate: got -1, expected a number of at least 0/],
      ["- 1\n- 2\n", /options\.yaml: expected a mapping from option names to values/],
      ["a: [1\n", /Cannot read .*options\.yaml/],
    ];
    for (const [text, message] of inFile) {
      Deno.writeTextFileSync(config, text);
      fails(
        await keel("sft", ...flags({ model: BASE, dataset: rows, output_dir: output, config })),
        message,
        2,
      );
    }
    fails(await keel("sft", "--config", "/no/options.yaml"), /\/no\/options\.yaml.*does not exist/, 2);
    fails(await spawnKeel(["pppo"]), /There is no command "pppo"\. Did you mean ppo\?/, 2);
    assert.throws(() => Deno.statSync(output), Deno.errors.NotFound);
  }));

Deno.test("a run directory in use, or with a run in it, is refused with the ways out", () =>
  withDirectory(async (directory) => {
    const dataset = writeLines(directory, "rows.jsonl", [ROWS.sft]), output = join(directory, "run");
    const line = train("sft", BASE, dataset, output);
    assert.equal((await keel(...line)).code, 0);
    const lock = lockRun(output);
    fails(
      await spawnKeel([...line, "--resume"]),
      new RegExp(
        `Cannot use .*run: process ${Deno.pid} on .* is using it\\. Wait for it, stop it, or choose`,
      ),
    );
    lock.release();
    fails(
      await keel(...line),
      /already holds a run of sft\. Continue it with --resume.*--overwrite_output_dir/,
    );
    fails(
      await keel(...train("reward", BASE, dataset, output, { resume: true })),
      /Cannot resume .*: it holds a run of sft/,
    );
    Deno.writeTextFileSync(join(directory, "file"), "");
    fails(
      await keel(...train("sft", BASE, dataset, join(directory, "file"))),
      /Cannot use .*file for a run: /,
    );
    fails(
      await keel(
        ...train("sft", BASE, dataset, join(directory, "new"), { resume_from_checkpoint: "/no/step-4" }),
      ),
      /Cannot use the checkpoint \/no\/step-4: state\.json cannot be read/,
    );
  }));

Deno.test("only --debug shows where an error comes from", () =>
  withDirectory(async (directory) => {
    const line = ["score", "--model", golden("models/tiny-llama"), "--input", join(directory, "none.jsonl")];
    fails(await spawnKeel(line), /none\.jsonl: the file does not exist/);
    const { code, err } = await spawnKeel([...line, "--debug"]);
    assert.equal(code, 1);
    assert.match(err, /the file does not exist.*\n\s+at /);
  }));
