/** The sources of rewards that options name: their order, weights and names, and reward models against `documentScorer`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { encodeContent } from "../../src/data/encode.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { readConfig } from "../../src/model/config.ts";
import { loadHeaded } from "../../src/model/headed.ts";
import { saveModel } from "../../src/model/load.ts";
import { combineScores } from "../../src/reward/ensemble.ts";
import { scoreBatch } from "../../src/reward/source.ts";
import { sumRewards } from "../../src/rl/group_advantages.ts";
import { documentScorer } from "../../src/sample/score.ts";
import { rewardFields, type RewardSourceOptions } from "../../src/train/options/rewards.ts";
import { openRewards, rewardName, type RewardSettings } from "../../src/train/rewards.ts";
import { withDirectory } from "../assets.ts";
import { batchOf } from "../reward/batches.ts";
import { startServer } from "../reward/servers.ts";
import { writeByteTokenizer } from "../cli/tiny_models.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const optionsOf = (given: Partial<z.input<z.ZodObject<typeof rewardFields>>>): RewardSourceOptions =>
  z.strictObject(rewardFields).parse(given);

const tokenizer = loadTokenizer(BASE);
const settings: RewardSettings = { tokenizer, maxCompletionLength: 10, seed: 1, say() {} };

/** Reward models with fresh heads, one for each seed, in `rm/1/model` and so on. */
async function rewardModels(gpu: Gpu, directory: string, seeds: number[]): Promise<string[]> {
  const paths: string[] = [];
  for (const seed of seeds) {
    const path = join(directory, `rm${seed}`, "model");
    Deno.mkdirSync(path, { recursive: true });
    await saveModel(gpu, loadHeaded(gpu, BASE, seed), path, { tokenizerFrom: BASE });
    paths.push(path);
  }
  return paths;
}

const TEXTS = ["<user> 1 2 <bot>", "<user> 3 4 4 <bot>", "<user> 1 <bot>"];

/** Prompts of different lengths with completions. */
const batch = batchOf({
  prompts: TEXTS,
  completions: [" 3", " 5 5", " 7"],
  promptIds: TEXTS.map((text) => tokenizer.encode(text)),
  completionIds: [[9, 2], [10, 11], [12, 2]],
  ended: [true, false, true],
  columns: { solution: ["3", "4", "?"] },
});

Deno.test("models, functions, endpoint: in this order, each under its name and with its weight", () =>
  withDirectory(async (directory) => {
    const gpu = await openGpu(), workspace = { gpu };
    const server = startServer((body) => ({
      rewards: (body as { query: string[] }).query.map(({ length }) => length),
    }));
    try {
      const [one, two, three] = await rewardModels(gpu, directory, [1, 2, 3]);
      const documents = batch.promptIds.map((ids, i) => [...ids, ...batch.completionIds[i]]);
      const wanted: number[][] = [];
      for (const seed of [1, 2, 3]) {
        wanted.push(await documentScorer(workspace, loadHeaded(gpu, BASE, seed))(documents));
      }
      const file = join(directory, "mine.ts");
      Deno.writeTextFileSync(
        file,
        "export const rm1 = ({ completion_ids }) => completion_ids.map((ids) => ids[0]);",
      );
      const sources = await openRewards(
        workspace,
        optionsOf({
          rewardModelPath: [one, two],
          rewardFuncs: ["accuracy_reward", file],
          rewardUrl: `${server.url}/get_reward`,
          rewardWeights: [1, 2, 3, 4, 0.5],
        }),
        { ...settings, batchSize: 2 },
      );
      assert.deepEqual(sources.map(({ name, weight }) => [name, weight]), [
        ["rm1", 1],
        ["rm2", 2],
        ["accuracy_reward", 3],
        ["rm1_2", 4],
        ["reward_url", 0.5],
      ]);
      const values = await scoreBatch(sources, batch);
      assert.deepEqual(values.slice(0, 4), [wanted[0], wanted[1], [1, 0, null], [9, 10, 12]]);
      const { query, prompts } = server.seen[0];
      assert.deepEqual(prompts, TEXTS);
      assert.deepEqual(
        query,
        documents.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: false })),
      );
      assert.equal(
        sumRewards(values, sources.map(({ weight }) => weight))[2],
        wanted[0][2] + 2 * wanted[1][2] + 4 * 12 + 0.5 * query[2].length,
      );
      sources.forEach(({ close }) => close?.());

      for (const rule of ["mean", "min", "uncertainty"] as const) {
        const paths = [one, two, three];
        const [ensemble, ...others] = await openRewards(
          workspace,
          optionsOf({ rewardModelPath: paths, rewardEnsemble: rule, rewardEnsembleLambda: 0.3 }),
          settings,
        );
        assert.deepEqual([ensemble.name, others.length], [`ensemble_${rule}`, 0]);
        assert.deepEqual(await ensemble.score(batch), combineScores(wanted, { rule, lambda: 0.3 }));
        ensemble.close!();
      }
    } finally {
      await server.close();
      gpu.close();
    }
  }));

Deno.test("a reward model with another tokenizer reads the text, ended where the completion ended", () =>
  withDirectory(async (directory) => {
    const gpu = await openGpu(), workspace = { gpu };
    try {
      const [path] = await rewardModels(gpu, directory, [4]);
      const byBytes = join(directory, "bytes");
      Deno.mkdirSync(byBytes);
      writeByteTokenizer(byBytes);
      const own = loadTokenizer(byBytes);
      // The parrot has fewer tokens than there are bytes, which is refused.
      assert.ok(own.vocabSize > readConfig(BASE).vocabSize);
      writeByteTokenizer(path);
      await assert.rejects(
        openRewards(workspace, optionsOf({ rewardModelPath: [path] }), settings),
        /has 259 tokens, but the model .* has only/,
      );
      // The same words in another file: special tokens are written out by the text alone.
      const [other] = await rewardModels(gpu, directory, [5]);
      const json = JSON.parse(Deno.readTextFileSync(join(other, "tokenizer.json")));
      Deno.writeTextFileSync(join(other, "tokenizer.json"), JSON.stringify(json, null, 3));
      const [source] = await openRewards(workspace, optionsOf({ rewardModelPath: [other] }), settings);
      const scorer = documentScorer(workspace, loadHeaded(gpu, BASE, 5));
      const texts = batch.prompts.map((prompt, i) =>
        `${prompt}${batch.completions[i]}${batch.ended[i] ? tokenizer.eosToken : ""}`
      );
      assert.deepEqual(
        await source.score(batch),
        await scorer(texts.map((text) => encodeContent(tokenizer, text))),
      );
    } finally {
      gpu.close();
    }
  }));

Deno.test("sources that cannot be opened are refused with what was expected", () =>
  withDirectory(async (directory) => {
    const gpu = await openGpu(), workspace = { gpu };
    const open = (given: Parameters<typeof optionsOf>[0]) =>
      openRewards(workspace, optionsOf(given), settings);
    try {
      const [path] = await rewardModels(gpu, directory, [1]);
      await assert.rejects(open({}), /There is nothing that gives rewards. Give reward_model, reward_funcs/);
      await assert.rejects(
        open({ rewardFuncs: "length_reward", rewardWeights: [1, 2] }),
        /Got 2 reward_weights for 1 rewards \(length_reward\)/,
      );
      await assert.rejects(
        open({ rewardModelPath: BASE }),
        /it is a language model. Expected a reward model/,
      );
      await assert.rejects(
        open({ rewardModelPath: path, rewardEnsemble: "min" }),
        /reward_ensemble min is of several reward models, but reward_model names 1/,
      );
      await assert.rejects(
        open({ judgeUrl: "http://127.0.0.1:1/v1" }),
        /A judge needs judge_url.*and judge_model/,
      );
      await assert.rejects(
        open({ judgeUrl: "http://127.0.0.1:1/v1", judgeModel: "m", judgeMaxCost: 1 }),
        /judge_max_cost needs judge_input_price/,
      );
      const long = batchOf({
        completions: ["x"],
        promptIds: [new Array(5000).fill(5)],
        completionIds: [[5]],
      });
      const [source] = await open({ rewardModelPath: path });
      await assert.rejects(source.score(long), /has 5001 tokens; the reward model .* has \d+ positions/);
    } finally {
      gpu.close();
    }
  }));

Deno.test("a reward model is called after what it is the result of", () => {
  for (
    const [path, name] of [
      ["runs/rm/model", "rm"],
      ["runs/rm", "rm"],
      ["runs/x/reward/model", "reward"],
      ["runs/rm/checkpoints/step-40", "rm"],
      ["model", "model"],
      ["/cache/hub/models--org--Some-RM/snapshots/0123", "Some-RM"],
    ]
  ) {
    assert.equal(rewardName(path), name);
  }
});
