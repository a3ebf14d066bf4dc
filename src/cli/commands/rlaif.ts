/**
 * `keel rlaif`: prompts, a policy and a judge become preference pairs, and these a better policy.
 *
 * @module
 */
import { join } from "node:path";
import { loadTokenizer } from "../../data/tokenizer.ts";
import { writeTextAtomically } from "../../model/atomic_file.ts";
import { destroyModel, loadFrozen } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { openJudgeAnswers } from "../../run/judge_cache.ts";
import { openJudgeOf } from "../../train/judge.ts";
import { PAIRS } from "../../train/label.ts";
import { lengthLimit, loadPromptRows } from "../../train/load_data.ts";
import { dpoOptions, ppoOptions, rewardOptions } from "../../train/options/defaults.ts";
import type { RlaifOptions } from "../../train/options/rlaif.ts";
import { judgeByComparison, judgeByRewards } from "../../train/pair_judges.ts";
import { openRewards } from "../../train/rewards.ts";
import { winRate, winRateLine } from "../../train/win_rate.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";
import { checkSame } from "../sampled_session.ts";
import { type Session, trainingSession } from "../session.ts";
import { dpoStage } from "./dpo.ts";
import { comparesPairs, labelStage } from "./label.ts";
import { ppoStage } from "./ppo.ts";
import { rewardStage } from "./reward.ts";

/** Random stream of the answers that are compared in the end. */
const EVALUATION = 0x50000000;

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<RlaifOptions>(withRun(given), io);
  checkSame(recorded, ["judgeMode", "method", "evalPrompts"]);
  const { method } = options;
  const stages = method === "dpo" ? ["label", "dpo"] : ["label", "reward", "ppo"];
  const model = (runDir: string) => join(runDir, method, "model");
  return await trainingSession(
    {
      name: "rlaif",
      stages,
      async *steps(session) {
        const { run } = session, [label, reward] = ["label", "reward"].map((name) => join(run.dir, name));
        const done = (name: string) => run.stage(name).finished() !== undefined;

        // 1. Pairs of the policy's own answers, labelled
        if (!done("label")) {
          yield* labelStage(session, run.stage("label"), options, options.evalPrompts);
          if (!done("label")) return;
        }

        // 2. A policy that learns from the pairs, or from a reward model of them
        const { learningRate } = options;
        const policy = { ...shared(options), ...(learningRate !== undefined && { learningRate }) };
        const pairs = { datasetName: [{ path: join(label, PAIRS) }], datasetTrainSplit: "train" };
        if (method === "dpo" && !done("dpo")) {
          const { beta, maxSteps } = options;
          yield* dpoStage(session, run.stage("dpo"), dpoOptions({ ...policy, ...pairs, beta, maxSteps }));
        }
        if (method === "ppo" && !done("reward")) {
          const settings = { ...shared(options), ...pairs, learningRate: options.rewardLearningRate };
          yield* rewardStage(session, run.stage("reward"), rewardOptions(settings));
          if (!done("reward")) return;
        }
        if (method === "ppo" && !done("ppo")) {
          yield* ppoStage(
            session,
            run.stage("ppo"),
            ppoOptions({
              ...policy,
              datasetName: options.datasetName,
              datasetConfig: options.datasetConfig,
              datasetTrainSplit: options.datasetTrainSplit,
              rewardModelPath: [join(reward, "model")],
              maxPromptLength: options.maxPromptLength,
              responseLength: options.maxCompletionLength,
              temperature: options.temperature,
              stopToken: "eos",
              klCoef: options.klCoef,
              maxSteps: options.maxSteps,
            }),
            options.evalPrompts,
          );
        }

        // 3. Is it better?
        if (done(method) && options.evalPrompts > 0) await compareWithStart(session, options, model(run.dir));
      },
      finish: ({ run }) => [model(run.dir)],
    },
    recorded,
    io,
  );
};

/** Options that all stages have. */
const SHARED = [
  "modelNameOrPath",
  "outputDir",
  "seed",
  "numTrainEpochs",
  "perDeviceTrainBatchSize",
  "gradientAccumulationSteps",
  "gradientCheckpointing",
  "dtype",
  "gpuMemory",
  "usePeft",
  "loraR",
  "loraAlpha",
  "loraDropout",
  "loraTargetModules",
  "loraModulesToSave",
  "useRslora",
  "useDora",
  "saveSteps",
  "saveTotalLimit",
  "loggingSteps",
  "reportTo",
] as const;

/** These options of a run. */
function shared(options: RlaifOptions): Pick<RlaifOptions, typeof SHARED[number]> {
  return Object.fromEntries(SHARED.map((name) => [name, options[name]])) as Pick<
    RlaifOptions,
    typeof SHARED[number]
  >;
}

/** Has answers of the trained policy compared with those of its start, and keeps the result as win_rate.json. */
async function compareWithStart(
  { workspace, run, say }: Session,
  options: RlaifOptions,
  trained: string,
): Promise<void> {
  const { gpu } = workspace, { modelNameOrPath: start, dtype, seed, maxCompletionLength } = options;
  const { maxPositions, eosIds } = configOf(start);
  const tokenizer = loadTokenizer(tokenizerSource(start)), decode = (ids: number[]) => tokenizer.decode(ids);
  const limit = lengthLimit(options.maxPromptLength, maxPositions - maxCompletionLength);
  const prompts = await loadPromptRows(options, tokenizer, limit, { directory: run.dir, say: () => {} });
  const first = prompts.length - options.evalPrompts;
  const judgeCache = openJudgeAnswers(join(run.dir, "run.db"));
  const sources = comparesPairs(options)
    ? []
    : await openRewards(workspace, options, { tokenizer, maxCompletionLength, dtype, judgeCache, seed, say });
  const before = loadFrozen(gpu, start, dtype), after = loadFrozen(gpu, trained, dtype);
  try {
    const result = await winRate(workspace, {
      before,
      after,
      prompts: Array.from({ length: options.evalPrompts }, (_, i) => prompts.at(first + i)!),
      judge: comparesPairs(options)
        ? judgeByComparison(openJudgeOf(options, { cache: judgeCache, seed }), decode)
        : judgeByRewards(sources, decode),
      sampling: {
        temperature: options.temperature,
        topK: options.topK,
        topP: options.topP,
        stopIds: eosIds,
        maxNewTokens: maxCompletionLength,
        seed,
        stream: EVALUATION,
      },
    });
    writeTextAtomically(join(run.dir, "win_rate.json"), JSON.stringify(result, null, 2) + "\n");
    say(winRateLine(result));
  } finally {
    for (const source of sources) source.close?.();
    judgeCache.close();
    destroyModel(gpu, before);
    destroyModel(gpu, after);
  }
}
