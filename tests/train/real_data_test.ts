/** `keel train` on data of one's own: hh-rlhf as it is published, and files in TRL's formats. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { openStore } from "../../src/run/store.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { flags, keel, readLines, writeLines } from "../cli/keel.ts";
import { metricsOf } from "./trl.ts";

const STORIES = () => asset("goldens/models/stories260K");

/** A few steps of each stage. */
const SHORT = {
  max_length: 256,
  sft_batch_size: 8,
  reward_batch_size: 8,
  ppo_steps: 3,
  ppo_batch_size: 8,
  response_length: 12,
  logging_steps: 1,
};

/** Runs the whole job and returns what was said. */
async function train(options: Record<string, unknown>): Promise<string> {
  const { code, err, out } = await keel("train", ...flags({ ...SHORT, ...options }));
  assert.equal(code, 0, err);
  const run = options.output_dir as string;
  assert.equal(out, `${join(run, "report.html")}\n${join(run, "ppo", "model")}\n`);
  return err;
}

/** Numbers of the line on the rows of `what`. */
function counts(err: string, what: string): { kept: number; rows: number; dropped: number; cut: number } {
  const line = err.split("\n").find((one) => one.startsWith(what));
  assert.ok(line, `no line on ${what} in:\n${err}`);
  const number = (pattern: RegExp) => Number(pattern.exec(line)?.[1] ?? 0);
  return {
    kept: number(/: (\d+) of/),
    rows: number(/of (\d+) rows/),
    dropped: number(/(\d+) dropped/),
    cut: number(/(\d+) cut to the limit/),
  };
}

/** The models of all stages can be used. */
async function checkModels(run: string, directory: string): Promise<void> {
  const input = writeLines(directory, "use.jsonl", [{ prompt: "Once upon a time" }]);
  const texts = writeLines(directory, "texts.jsonl", [{ text: "Once upon a time" }]);
  for (const stage of ["sft", "ppo"]) {
    const { code, out, err } = await keel(
      "sample",
      ...flags({ model: join(run, stage, "model"), input, max_new_tokens: 5 }),
    );
    assert.equal(code, 0, err);
    assert.ok(JSON.parse(out).completion_ids.length >= 1);
  }
  const { code, out, err } = await keel(
    "score",
    ...flags({ model: join(run, "reward", "model"), input: texts }),
  );
  assert.equal(code, 0, err);
  assert.ok(Number.isFinite(JSON.parse(out).score));
}

assetTest(
  "hh-rlhf as it is published goes through all three stages, and what became of its rows is told",
  async () => {
    await withDirectory(async (directory) => {
      const dataset = asset("data/hh-rlhf-harmless-base-test.jsonl.gz"), output_dir = join(directory, "run");
      const err = await train({
        model: STORIES(),
        dataset,
        output_dir,
        test_split_size: 0.02,
        sft_epochs: 0.02,
        reward_epochs: 0.02,
      });

      const pairs = counts(err, "pairs of"), held = counts(err, "held-out pairs of");
      const demonstrations = counts(err, "demonstrations of"), prompts = counts(err, "prompts of");
      for (const { kept, rows, dropped } of [pairs, held, demonstrations, prompts]) {
        assert.equal(kept + dropped, rows);
        assert.ok(kept > 0 && dropped > 0);
      }
      assert.deepEqual([pairs.rows, held.rows], [2266, 46]);
      assert.deepEqual([demonstrations.rows, prompts.rows], [2266, 2266]);
      assert.ok(demonstrations.cut > 0);

      // Which pairs fit is counted again here.
      const unzipped = Deno.readFileSync(dataset);
      const stream = new Blob([unzipped]).stream().pipeThrough(new DecompressionStream("gzip"));
      const lines = (await new Response(stream).text()).trimEnd().split("\n");
      const tokenizer = loadTokenizer(STORIES());
      const fits = lines.filter((line) => {
        const { chosen, rejected } = JSON.parse(line);
        return [chosen, rejected].every((text) => tokenizer.encode(text + "</s>").length <= 256);
      });
      assert.equal(pairs.kept + held.kept, fits.length);

      const rewards = metricsOf(output_dir, "reward"), last = rewards.get(rewards.size)!;
      const right = last.eval_accuracy * held.kept;
      assert.ok(
        Math.abs(right - Math.round(right)) < 1e-6,
        `${last.eval_accuracy} of ${held.kept} held-out pairs`,
      );
      for (const stage of ["sft", "reward", "ppo"]) {
        for (const metrics of metricsOf(output_dir, stage).values()) {
          assert.ok(Object.values(metrics).every(Number.isFinite), stage);
          assert.equal(metrics.skipped_steps, 0);
        }
      }
      assert.ok(metricsOf(output_dir, "sft").size >= 2 && metricsOf(output_dir, "ppo").size === 3);
      assert.match(Deno.readTextFileSync(join(output_dir, "report.html")), /<svg/);
      const store = openStore(join(output_dir, "run.db"));
      for (const { prompt, completion } of store.samples("ppo")) {
        assert.match(prompt, /^\s*Human: [^]*Assistant:$/);
        assert.notEqual(completion, "");
      }
      store.close();
      await checkModels(output_dir, directory);
    });
  },
);

assetTest(
  "texts in TRL's formats: pairs with their prompt, demonstrations and prompts of their own",
  async () => {
    await withDirectory(async (directory) => {
      const output_dir = join(directory, "run");
      const file = (name: string) => golden(`trl/data/${name}.jsonl`);
      const err = await train({
        model: STORIES(),
        dataset: file("preference.train"),
        sft_dataset: file("prompt_completion.train"),
        prompts: file("prompt_only.train"),
        output_dir,
        test_split_size: 0.25,
        sft_epochs: 0.1,
        reward_epochs: 0.1,
      });
      const rows = (name: string) => readLines<{ prompt: string }>(file(name));
      const all = rows("preference.train").length;
      const pairs = counts(err, "pairs of"), held = counts(err, "held-out pairs of");
      assert.deepEqual([pairs.rows, held.rows], [all - Math.round(all / 4), Math.round(all / 4)]);
      assert.equal(counts(err, "demonstrations of").rows, rows("prompt_completion.train").length);
      assert.ok(err.includes(`demonstrations of ${file("prompt_completion.train")}: `));
      assert.ok(err.includes(`prompts of ${file("prompt_only.train")}: `));
      const prompts = new Set(rows("prompt_only.train").map(({ prompt }) => prompt));
      const store = openStore(join(output_dir, "run.db"));
      const samples = store.samples("ppo");
      store.close();
      assert.equal(samples.length, 3 * 8);
      for (const { prompt } of samples) assert.ok(prompts.has(prompt), prompt);
      await checkModels(output_dir, directory);
    });
  },
);

assetTest("without demonstrations of its own, SFT learns the chosen sides", async () => {
  await withDirectory(async (directory) => {
    const output_dir = join(directory, "run"), dataset = golden("trl/data/preference.train.jsonl");
    await train({
      model: STORIES(),
      dataset,
      output_dir,
      test_split_size: 0,
      sft_epochs: 1,
      reward_epochs: 0.1,
    });
    const tokenizer = loadTokenizer(STORIES());
    const rows = readLines<{ prompt: string; chosen: string }>(dataset);
    const tokens = rows.map(({ prompt, chosen }) => tokenizer.encode(prompt + chosen + "</s>").length);
    const metrics = metricsOf(output_dir, "sft");
    assert.equal(metrics.get(metrics.size)!.num_tokens, tokens.reduce((a, b) => a + b));
    // Nothing is held out, so nothing is evaluated.
    assert.equal(metricsOf(output_dir, "reward").get(1)!.eval_accuracy, undefined);
  });
});

assetTest("conversations go through the chat template in every stage", async () => {
  await withDirectory(async (directory) => {
    const model = join(directory, "model"), output_dir = join(directory, "run");
    Deno.mkdirSync(model);
    for (const { name } of Deno.readDirSync(STORIES())) {
      if (!name.startsWith("golden")) Deno.copyFileSync(join(STORIES(), name), join(model, name));
    }
    const template =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}" +
      "{% if add_generation_prompt %}[assistant]{% endif %}";
    Deno.writeTextFileSync(join(model, "chat_template.jinja"), template);
    const user = (i: number) => [{ role: "user", content: `Tell me about cat number ${i}.` }];
    const assistant = (text: string) => [{ role: "assistant", content: text }];
    const numbers = Array.from({ length: 24 }, (_, i) => i);
    const pairs = numbers.map((i) => ({
      prompt: user(i),
      chosen: assistant(`It was happy and had ${i} friends.`),
      rejected: assistant("No."),
    }));
    const conversations = numbers.map((i) => ({
      messages: [...user(i), ...assistant("The cat sat on a mat.")],
    }));
    const err = await train({
      model,
      dataset: writeLines(directory, "pairs.jsonl", pairs),
      sft_dataset: writeLines(directory, "conversations.jsonl", conversations),
      prompts: writeLines(directory, "prompts.jsonl", numbers.map((i) => ({ prompt: user(100 + i) }))),
      output_dir,
      test_split_size: 0.25,
    });
    assert.deepEqual(counts(err, "pairs of"), { kept: 18, rows: 18, dropped: 0, cut: 0 });
    assert.deepEqual(counts(err, "held-out pairs of"), { kept: 6, rows: 6, dropped: 0, cut: 0 });
    const store = openStore(join(output_dir, "run.db"));
    for (const { prompt } of store.samples("ppo")) {
      assert.match(prompt, /^<s>\[user\] Tell me about cat number 1\d\d\.<\/s>\[assistant\]$/);
    }
    store.close();
    // The template is part of the result.
    assert.equal(Deno.readTextFileSync(join(output_dir, "ppo", "model", "chat_template.jinja")), template);
    await checkModels(output_dir, directory);
  });
});

assetTest(
  "held-out pairs, demonstrations or prompts that do not fit are an error that says why",
  async () => {
    await withDirectory(async (directory) => {
      const long = "and ".repeat(300);
      const pairs = Array.from({ length: 8 }, (_, i) => ({ prompt: `${i}`, chosen: "a", rejected: "b" }));
      const options = {
        model: STORIES(),
        dataset: writeLines(directory, "pairs.jsonl", pairs),
        output_dir: join(directory, "run"),
        overwrite_output_dir: true,
      };
      const bad: [Record<string, unknown>, RegExp][] = [
        [
          { prompts: writeLines(directory, "p.jsonl", [{ prompt: long }]) },
          /longer than max_prompt_length 256/,
        ],
        [
          { sft_dataset: writeLines(directory, "s.jsonl", [{ prompt: long, completion: "a" }]) },
          /without a completion/,
        ],
        [
          { response_length: 512 },
          /Completions of 512 tokens leave no room for a prompt in the model's 512 positions/,
        ],
        [{ model: undefined }, /needs both --model .* and --dataset/],
      ];
      for (const [more, message] of bad) {
        const given = Object.entries({ ...SHORT, ...options, ...more }).filter(([, value]) =>
          value !== undefined
        );
        const { code, err } = await keel("train", ...flags(Object.fromEntries(given)));
        assert.equal(code, 1, err);
        assert.match(err, message);
      }
    });
  },
);
