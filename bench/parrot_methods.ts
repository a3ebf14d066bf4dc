/**
 * Every method on the parrot with its gold reward: `deno run -A bench/parrot_methods.ts [filter] [--json file]`.
 *
 * All start from one SFT model and get the same number of sampled replies: online methods draw them as they learn, the others
 * get them as pairs drawn from the SFT model, the better one by gold as chosen (KTO as single replies, good where gold is above
 * 0). Gold and the exact KL to the SFT model are of held-out prompts, sampled at temperature 1: before, the best during the run,
 * and at its end. Prints a table.
 */
import { join } from "node:path";
import type { PreferenceExample } from "../src/data/preference.ts";
import type { PromptRow, UnpairedExample } from "../src/data/tokenize.ts";
import { openGpu } from "../src/gpu/device.ts";
import type { Model } from "../src/model/decoder.ts";
import { destroyModel, loadModel, saveModel } from "../src/model/load.ts";
import { loadHeaded } from "../src/model/headed.ts";
import { parrotBaseDirectory } from "../src/parrot/base.ts";
import { demonstrations, trainingPrompts } from "../src/parrot/datasets.ts";
import { gold } from "../src/parrot/gold.ts";
import { heldOutPrompts, type Prompt } from "../src/parrot/prompts.ts";
import { decodeWords, EOS_ID, promptIds } from "../src/parrot/vocabulary.ts";
import type { RewardSource } from "../src/reward/source.ts";
import { openRun, type StageRun } from "../src/run/run.ts";
import { openGenerator } from "../src/sample/generate.ts";
import type { Workspace } from "../src/tape/plan.ts";
import { completionScorer } from "../src/train/completion_scores.ts";
import { cpo } from "../src/train/cpo.ts";
import { dpo } from "../src/train/dpo.ts";
import type { StepEvent } from "../src/train/events.ts";
import { grpo } from "../src/train/grpo.ts";
import { kto } from "../src/train/kto.ts";
import { onlineDpo } from "../src/train/online_dpo.ts";
import {
  cpoOptions,
  dpoOptions,
  grpoOptions,
  ktoOptions,
  onlineDpoOptions,
  orpoOptions,
  ppoOptions,
  reinforceOptions,
  rlooOptions,
  sftOptions,
} from "../src/train/options/defaults.ts";
import { orpo } from "../src/train/orpo.ts";
import { judgeByRewards } from "../src/train/pair_judges.ts";
import { PARROT_SAMPLING, parrotEvaluator } from "../src/train/parrot.ts";
import { ppo } from "../src/train/ppo.ts";
import { reinforce } from "../src/train/reinforce.ts";
import { rloo } from "../src/train/rloo.ts";
import { sft } from "../src/train/sft.ts";
import { benchArguments } from "./timing.ts";

const { filter, json } = benchArguments(Deno.args);
const SEED = 1, STEPS = 40, BATCH = 96, SAMPLES = STEPS * BATCH, EVALUATIONS = 8, EVAL_PROMPTS = 256;

const gpu = await openGpu(), workspace: Workspace = { gpu };
const directory = await Deno.makeTempDir({ prefix: "keel-bench-" });
const base = await parrotBaseDirectory();

function stageOf(name: string): StageRun {
  return openRun(join(directory, name), {
    config: { command: name, seed: SEED, adapter: gpu.info.name, driver: gpu.info.vendor, options: {} },
  }).stage(name);
}

// 1. One SFT model for all
const start = join(directory, "sft/model");
{
  const model = loadModel(gpu, base), examples = demonstrations(SEED, 2500);
  const options = sftOptions({
    learningRate: 1e-3,
    perDeviceTrainBatchSize: 64,
    numTrainEpochs: 2,
    seed: SEED,
  });
  for await (const _ of sft(stageOf("sft"), { workspace, model, examples }, options));
  await saveModel(gpu, model, start, { tokenizerFrom: base });
  destroyModel(gpu, model);
}
const reference = loadModel(gpu, start);
const evaluateReplies = parrotEvaluator(workspace, { reference, prompts: heldOutPrompts(EVAL_PROMPTS) });
async function evaluate(policy: Model): Promise<{ gold: number; kl: number }> {
  const replies = await evaluateReplies(policy);
  const mean = (of: "gold" | "kl") => replies.reduce((sum, reply) => sum + reply[of], 0) / replies.length;
  return { gold: mean("gold"), kl: mean("kl") };
}

// 2. Prompts, the gold reward as a function, and replies of the SFT model to compare
const prompts: PromptRow[] = trainingPrompts(SEED, "ppo", SAMPLES).map((parrot) => ({
  ids: promptIds(parrot),
  text: parrot.text,
  prompt: parrot.text,
  columns: { parrot },
}));
const source: RewardSource = {
  name: "gold",
  weight: 1,
  score: ({ columns, completionIds }) =>
    Promise.resolve(completionIds.map((ids, i) => gold(columns.parrot[i] as Prompt, decodeWords(ids)))),
};
const decode = (ids: number[]) => decodeWords(ids).join(" ");

async function repliesOfSft() {
  const asked = prompts.slice(0, SAMPLES / 2);
  const replies = await openGenerator(workspace, reference).generate(
    asked.map(({ ids }, i) => ({ ids, samples: [2 * i, 2 * i + 1] })),
    { ...PARROT_SAMPLING, seed: SEED, stream: 1 },
  );
  return asked.map(({ ids, columns }, i) => ({
    prompt: ids,
    replies: [replies[2 * i].ids, replies[2 * i + 1].ids].map((reply) => ({
      ids: reply,
      gold: gold(columns.parrot as Prompt, decodeWords(reply)),
    })).sort((a, b) => b.gold - a.gold),
  }));
}
const answered = await repliesOfSft();
const side = (prompt: number[], ids: number[]) => ({ ids: [...prompt, ...ids], promptLength: prompt.length });
const pairs: PreferenceExample[] = answered.filter(({ replies: [better, worse] }) => better.gold > worse.gold)
  .map(({ prompt, replies: [better, worse] }) => ({
    chosen: side(prompt, better.ids),
    rejected: side(prompt, worse.ids),
  }));
const singles: UnpairedExample[] = answered.flatMap(({ prompt, replies }) =>
  replies.map(({ ids, gold }) => ({ ...side(prompt, ids), label: gold > 0 }))
);

// 3. The methods
const online = {
  seed: SEED,
  maxSteps: STEPS,
  perDeviceTrainBatchSize: BATCH,
  temperature: 1,
  saveSteps: 1000,
};
// Small batches of completions, so that every step is on-policy.
const groups = {
  ...online,
  maxSteps: 4 * STEPS,
  perDeviceTrainBatchSize: BATCH / 4,
  maxCompletionLength: PARROT_SAMPLING.maxNewTokens,
  learningRate: 4e-4,
};
const offline = { seed: SEED, perDeviceTrainBatchSize: 32, numTrainEpochs: 3, saveSteps: 1000 };

interface Method {
  name: string;
  note: string;
  run(stage: StageRun, policy: Model): AsyncGenerator<StepEvent>;
}

const shared = (policy: Model) => ({
  workspace,
  policy,
  reference,
  prompts,
  rewards: [source],
  stopIds: [EOS_ID],
  decode,
});
const METHODS: Method[] = [
  {
    name: "ppo",
    note: "4 mini-batches, critic from the policy",
    run: (stage, policy) =>
      ppo(
        stage,
        {
          ...shared(policy),
          reward: completionScorer([source], decode),
          value: loadHeaded(gpu, start, SEED),
          scoreScale: { mean: 0, std: 1 },
          valueScale: { mean: 0, std: 1 },
        },
        ppoOptions({
          ...online,
          learningRate: 4e-4,
          valueLearningRate: 1e-3,
          numPpoEpochs: 1,
          numMiniBatches: 4,
          responseLength: PARROT_SAMPLING.maxNewTokens,
          klCoef: 0.02,
          vfCoef: 1,
          scorePlacement: "eos",
        }),
      ),
  },
  {
    name: "grpo",
    note: "3 prompts x 8, dapo",
    run: (stage, policy) => grpo(stage, shared(policy), grpoOptions(groups)),
  },
  {
    name: "rloo",
    note: "6 prompts x 4, beta 0.02",
    run: (stage, policy) =>
      rloo(stage, shared(policy), rlooOptions({ ...groups, numGenerations: 4, beta: 0.02 })),
  },
  {
    name: "reinforce",
    note: "REINFORCE++-baseline, 6 prompts x 4",
    run: (stage, policy) =>
      reinforce(stage, shared(policy), reinforceOptions({ ...groups, numGenerations: 4 })),
  },
  {
    name: "online-dpo",
    note: "24 prompts x 2, beta 0.1",
    run: (stage, policy) =>
      onlineDpo(
        stage,
        { ...shared(policy), judge: judgeByRewards([source], decode) },
        onlineDpoOptions({
          ...online,
          maxSteps: SAMPLES / 48,
          perDeviceTrainBatchSize: 24,
          maxNewTokens: PARROT_SAMPLING.maxNewTokens,
          learningRate: 4e-4,
        }),
      ),
  },
  {
    name: "dpo",
    note: "sigmoid, beta 0.7, 3 epochs",
    run: (stage, model) =>
      dpo(
        stage,
        { workspace, model, reference, examples: pairs },
        dpoOptions({ ...offline, learningRate: 1e-3, beta: 0.7 }),
      ),
  },
  {
    name: "ipo",
    note: "DPO with ipo, beta 0.3, 3 epochs",
    run: (stage, model) =>
      dpo(
        stage,
        { workspace, model, reference, examples: pairs },
        dpoOptions({ ...offline, learningRate: 6e-4, beta: 0.3, lossType: ["ipo"] }),
      ),
  },
  {
    name: "kto",
    note: "beta 0.3, 2 epochs",
    run: (stage, model) =>
      kto(
        stage,
        { workspace, model, reference, examples: singles },
        ktoOptions({
          ...offline,
          numTrainEpochs: 2,
          perDeviceTrainBatchSize: 64,
          learningRate: 4e-4,
          beta: 0.3,
          shuffleDataset: true,
        }),
      ),
  },
  {
    name: "orpo",
    note: "beta 0.5, 3 epochs",
    run: (stage, model) =>
      orpo(
        stage,
        { workspace, model, examples: pairs },
        orpoOptions({ ...offline, learningRate: 1e-3, beta: 0.5 }),
      ),
  },
  {
    name: "cpo",
    note: "sigmoid, beta 0.3, 2 epochs",
    run: (stage, model) =>
      cpo(
        stage,
        { workspace, model, examples: pairs },
        cpoOptions({ ...offline, numTrainEpochs: 2, learningRate: 1e-3, beta: 0.3 }),
      ),
  },
  {
    name: "simpo",
    note: "CPO with simpo, gamma 0.5, beta 2, 3 epochs",
    run: (stage, model) =>
      cpo(
        stage,
        { workspace, model, examples: pairs },
        cpoOptions({ ...offline, learningRate: 4e-4, lossType: "simpo", beta: 2 }),
      ),
  },
];

// 4. Each from the same model
const before = await evaluate(reference);
console.log(`SFT: gold ${before.gold.toFixed(3)}; ${pairs.length} pairs, ${singles.length} single replies\n`);
console.log("| method | gold best | gold end | KL end | samples | seconds | settings |");
console.log("|---|---|---|---|---|---|---|");
const rows: Record<string, unknown>[] = [];
for (const method of METHODS.filter(({ name }) => filter.test(name))) {
  const policy = loadModel(gpu, start);
  let seconds = 0, best = before.gold, end = before, since = performance.now();
  for await (const { step, total } of method.run(stageOf(method.name), policy)) {
    seconds += (performance.now() - since) / 1e3;
    if (step === total || step % Math.ceil(total / EVALUATIONS) === 0) {
      end = await evaluate(policy);
      best = Math.max(best, end.gold);
    }
    since = performance.now();
  }
  const row = {
    name: method.name,
    best,
    end: end.gold,
    kl: end.kl,
    samples: SAMPLES,
    seconds,
    note: method.note,
  };
  rows.push(row);
  console.log(
    `| ${row.name} | ${best.toFixed(3)} | ${end.gold.toFixed(3)} | ${end.kl.toFixed(2)} | ${SAMPLES} | ${
      seconds.toFixed(1)
    } | ${method.note} |`,
  );
  destroyModel(gpu, policy);
}
if (json) await Deno.writeTextFile(json, JSON.stringify({ sft: before.gold, methods: rows }, null, 2) + "\n");
await Deno.remove(directory, { recursive: true });
gpu.close();
