/** Generation with a cache against PyTorch's greedy continuations, and what sampling must not depend on. */
import assert from "node:assert/strict";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import { type GenerateOptions, type NewTokens, openGenerator } from "../../src/sample/generate.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { openGolden, unpad } from "../model/golden.ts";

const GREEDY: GenerateOptions = {
  temperature: 0,
  topK: 0,
  topP: 1,
  stopIds: [],
  maxNewTokens: 16,
  seed: 1,
  stream: 0,
};

async function open(directory: string, profile: "cpu" | "gpu" = "cpu") {
  const gpu = await openGpu({ profile });
  const g = openGolden(directory);
  const generator = openGenerator({ gpu }, loadModel(gpu, directory));
  const mask = g.integers("gen.attention_mask");
  const { documents } = unpad(g.integers("gen.prompt_ids"), mask, g.shape("gen.prompt_ids"));
  const prompts = documents.map((ids, i) => ({ ids, samples: [i] }));
  return { gpu, g, generator, prompts };
}

const rowsOf = (all: Int32Array, width: number) =>
  Array.from({ length: all.length / width }, (_, i) => Array.from(all.subarray(i * width, (i + 1) * width)));

async function checkGreedy(directory: string, profile: "cpu" | "gpu") {
  const { gpu, g, generator, prompts } = await open(directory, profile);
  const width = g.shape("gen.greedy_ids")[1];
  const all = await generator.generate(prompts, { ...GREEDY, maxNewTokens: width });
  assert.deepEqual(all.map((c) => c.ids), rowsOf(g.integers("gen.greedy_ids"), width));
  if (g.has("gen.eos_greedy_ids")) {
    const eos = g.json.gen_eos_token_id as number;
    const stopped = await generator.generate(prompts, { ...GREEDY, maxNewTokens: width, stopIds: [eos] });
    const want = rowsOf(g.integers("gen.eos_greedy_ids"), width).map((row) => {
      const end = row.indexOf(eos);
      return end < 0 ? row : row.slice(0, end + 1);
    });
    assert.deepEqual(stopped.map((c) => c.ids), want);
    assert.deepEqual(
      stopped.map((c) => c.finishReason),
      want.map((row) => row.includes(eos) ? "stop" : "length"),
    );
  }
  gpu.close();
}

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} continues greedily as PyTorch does on the ${profile} profile`, async () => {
      await checkGreedy(golden(`models/${name}`), profile);
    });
  }
}
for (const name of ["gemma", "gemma2", "gpt-neox", "gpt2", "mistral", "phi3", "qwen2", "qwen3"]) {
  for (const profile of ["cpu", "gpu"] as const) {
    assetTest(`tiny-${name} continues greedily as PyTorch does on the ${profile} profile`, async () => {
      await checkGreedy(asset(`goldens/models/tiny-${name}`), profile);
    });
  }
}
assetTest("stories260K continues greedily as PyTorch does", async () => {
  await checkGreedy(asset("goldens/models/stories260K"), "cpu");
});

Deno.test("a sample depends on its prompt, seed, stream and number, not on its batch", async () => {
  const { gpu, generator, prompts } = await open(golden("models/tiny-llama"));
  const options = { ...GREEDY, temperature: 1, maxNewTokens: 11 };
  const together = await generator.generate(prompts, options);
  const [alone] = await generator.generate([prompts[2]], options);
  assert.deepEqual(alone, together[2]);
  const shared = await generator.generate([{ ids: prompts[2].ids, samples: [7, 2, 9] }], options);
  assert.deepEqual(shared[1], together[2]);
  assert.notDeepEqual(shared[0].ids, shared[2].ids);
  const [other] = await generator.generate([prompts[2]], { ...options, stream: 1 });
  assert.notDeepEqual(other.ids, alone.ids);
  gpu.close();
});

Deno.test("a prompt longer than the model is refused", async () => {
  const { gpu, generator } = await open(golden("models/tiny-llama"));
  const ids = new Array(5000).fill(3);
  await assert.rejects(generator.generate([{ ids, samples: [0] }], GREEDY), /longer than the model's/);
  gpu.close();
});

Deno.test("who follows is told of every token once, and nothing that is drawn depends on it", async () => {
  const { gpu, generator, prompts } = await open(golden("models/tiny-llama"));
  let reads = 0;
  const { read } = gpu.readback;
  gpu.readback.read = (windows) => (reads++, read(windows));
  for (const maxNewTokens of [1, 8, 9, 30]) {
    const options = { ...GREEDY, temperature: 1, maxNewTokens, stopIds: [7, 80, 123] };
    reads = 0;
    const alone = await generator.generate(prompts, options);
    const longest = Math.max(...alone.map(({ ids }) => ids.length));
    assert.ok(reads <= 1 + Math.ceil((longest - 1) / 8), `${reads} read-backs without a listener`);
    const told = alone.map(() => ({ ids: [] as number[], logprobs: [] as number[] }));
    let looks = 0;
    const onTokens = (news: NewTokens[]) => {
      looks++;
      for (const { row, ids, logprobs } of news) {
        assert.ok(ids.length > 0 && ids.length === logprobs.length && ids.length <= 9);
        told[row].ids.push(...ids);
        told[row].logprobs.push(...logprobs);
      }
      return false;
    };
    assert.deepEqual(await generator.generate(prompts, options, { onTokens }), alone);
    assert.deepEqual(told, alone.map(({ ids, logprobs }) => ({ ids, logprobs })));
    assert.equal(looks, Math.max(1, Math.ceil((longest - 1) / 8)));
  }
  gpu.close();
});

Deno.test("rows beyond those that are decoded together are told of by their place among all", async () => {
  const { gpu, generator, prompts: [prompt] } = await open(golden("models/tiny-llama"));
  const samples = Array.from({ length: 300 }, (_, i) => i), told = samples.map(() => [] as number[]);
  const options = { ...GREEDY, temperature: 1, maxNewTokens: 3 };
  const all = await generator.generate([{ ids: prompt.ids, samples }], options, {
    onTokens: (news) => {
      for (const { row, ids } of news) told[row].push(...ids);
      return false;
    },
  });
  assert.deepEqual(told, all.map(({ ids }) => ids));
  gpu.close();
});

Deno.test("a generation ends at a look when no more is wanted, or with the reason of its signal", async () => {
  const { gpu, generator, prompts } = await open(golden("models/tiny-llama"));
  const options = { ...GREEDY, maxNewTokens: 40 };
  const whole = await generator.generate(prompts, options);
  let looks = 0;
  const some = await generator.generate(prompts, options, { onTokens: () => ++looks === 2 });
  assert.deepEqual(some.map(({ ids }) => ids), whole.map(({ ids }) => ids.slice(0, 17)));

  const abort = new AbortController();
  const onTokens = () => {
    abort.abort(new Error("Enough."));
    return false;
  };
  const aborted = generator.generate(prompts, options, { onTokens, signal: abort.signal });
  await assert.rejects(aborted, /^Error: Enough\.$/);
  assert.deepEqual(await generator.generate(prompts, options), whole);
  // What it frees is made again when it is needed.
  generator.close();
  assert.deepEqual(await generator.generate(prompts, options), whole);
  gpu.close();
});
