/**
 * The default run: the pipeline's task in the parrot's world, and what is recorded for its report.
 *
 * @module
 */
import { join } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { fileExists } from "../model/json_file.ts";
import { loadModel } from "../model/load.ts";
import { destroyParams } from "../model/params.ts";
import { BIASED_ANNOTATOR, UNBIASED_ANNOTATOR } from "../parrot/annotators.ts";
import { parrotBaseDirectory } from "../parrot/base.ts";
import { demonstrations, promptExamples, trainingPrompts } from "../parrot/datasets.ts";
import { heldOutPrompts } from "../parrot/prompts.ts";
import { decodeWords, EOS_ID, promptIds } from "../parrot/vocabulary.ts";
import { openGenerator } from "../sample/generate.ts";
import type { Workspace } from "../tape/plan.ts";
import type { TrainOptions } from "./options/train.ts";
import { bestOfN, comparisons, evaluationMetrics, PARROT_SAMPLING, parrotEvaluator } from "./parrot.ts";
import type { PipelineTask } from "./pipeline.ts";

/** Held-out prompts on which best-of-n is measured: a part of those of the evaluation, at most. */
const BEST_OF_N_PROMPTS = 64;

/** Held-out prompts that the base model answers for the report. */
const BASE_REPLIES = 8;

/** The pipeline's task in the parrot's world; `say` announces what takes long. */
export async function parrotTask(
  workspace: Workspace,
  options: TrainOptions,
  say: (line: string) => void,
): Promise<PipelineTask> {
  const { seed } = options;
  const directory = await parrotBaseDirectory();
  const annotator = options.annotators === "biased" ? BIASED_ANNOTATOR : UNBIASED_ANNOTATOR;
  return {
    base: loadModel(workspace.gpu, directory),
    tokenizerFrom: directory,
    demonstrations: demonstrations(seed, options.demonstrations),
    async comparisons(sft, stage) {
      const file = join(stage.dir, "pairs.json");
      if (fileExists(file)) return JSON.parse(Deno.readTextFileSync(file));
      say(
        `reward: sampling ${options.pairs} pairs of replies and having ${options.annotators} annotators label them`,
      );
      const train = await comparisons(workspace, sft, { count: options.pairs, annotator, seed });
      writeTextAtomically(file, JSON.stringify({ train }));
      return { train };
    },
    prompts: promptExamples(trainingPrompts(seed, "ppo", options.ppoSteps * options.ppoBatchSize)),
    stopIds: [EOS_ID],
    decode: (ids) => decodeWords(ids).join(" "),
    async judge({ sft, reward, scoreScale }, stage) {
      const prompts = heldOutPrompts(options.evalPrompts);
      if (options.bestOfN > 0) {
        const some = prompts.slice(0, BEST_OF_N_PROMPTS);
        say(`ppo: best of 1 to ${options.bestOfN} on ${some.length} held-out prompts, for comparison`);
        const rows = await bestOfN(workspace, {
          sft,
          reward,
          scoreScale,
          prompts: some,
          most: options.bestOfN,
        });
        writeTextAtomically(join(stage.dir, "best_of_n.json"), JSON.stringify(rows));
      }
      const base = loadModel(workspace.gpu, directory);
      const replies = await openGenerator(workspace, base).generate(
        prompts.slice(0, BASE_REPLIES).map((prompt, i) => ({ ids: promptIds(prompt), samples: [i] })),
        { ...PARROT_SAMPLING, seed, stream: 0 },
      );
      const texts = replies.map((reply) => decodeWords(reply.ids).join(" "));
      writeTextAtomically(join(stage.dir, "base_replies.json"), JSON.stringify(texts));
      destroyParams(base.params);
      const evaluate = parrotEvaluator(workspace, { reference: sft, reward, scoreScale, prompts });
      return async (step, policy) => {
        const replies = await evaluate(policy);
        stage.samples(
          step,
          replies.map((reply) => ({
            prompt: reply.prompt.text,
            completion: reply.words.join(" "),
            tokens: reply.words.length,
            rewards: { gold: reply.gold, proxy: reply.proxy, kl: reply.kl },
            split: "eval" as const,
          })),
        );
        return evaluationMetrics(replies);
      };
    },
  };
}
