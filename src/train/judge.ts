/**
 * The judge that options name.
 *
 * @module
 */
import { type Judge, type JudgeCache, openJudge } from "../reward/judge.ts";
import { PLAIN_RUBRIC } from "../reward/rubric.ts";
import { readTextFile } from "../model/json_file.ts";
import type { JudgeOptions } from "./options/judge.ts";

/** Bytes of a rubric, which is sent with every question. */
const MOST_RUBRIC_BYTES = 100_000;

/** The value of an environment variable; undefined where it is not set. */
function variable(name: string): string | undefined {
  try {
    return Deno.env.get(name) || undefined;
  } catch (error) {
    throw new Error(
      `May not read the environment variable ${name}, which judge_api_key_env names. Use OPENAI_API_KEY or KEEL_JUDGE_API_KEY, or permit it with --allow-env=${name}.`,
      { cause: error },
    );
  }
}

/** Opens the judge; its answers are kept in `cache`, in memory if not given. */
export function openJudgeOf(
  options: JudgeOptions,
  { cache, seed }: { cache?: JudgeCache; seed: number },
): Judge {
  const { judgeUrl: url, judgeModel: model, judgeRubric, judgeMaxCost, judgeInputPrice, judgeOutputPrice } =
    options;
  if (url === undefined || model === undefined) {
    throw new Error(
      "A judge needs judge_url, the address of its server, and judge_model, the name of a model.",
    );
  }
  if (judgeMaxCost !== undefined && judgeInputPrice + judgeOutputPrice === 0) {
    throw new Error(
      "judge_max_cost needs judge_input_price or judge_output_price, by which the cost is counted.",
    );
  }
  return openJudge({
    url,
    model,
    apiKey: variable(options.judgeApiKeyEnv),
    rubric: judgeRubric === undefined ? PLAIN_RUBRIC : readTextFile(judgeRubric, MOST_RUBRIC_BYTES),
    maxTokens: options.judgeMaxTokens,
    temperature: options.judgeTemperature,
    concurrency: options.judgeConcurrency,
    timeout: options.judgeTimeout * 1000,
    retries: options.judgeRetries,
    limits: {
      maxRequests: options.judgeMaxRequests,
      inputPrice: judgeInputPrice,
      outputPrice: judgeOutputPrice,
      maxCost: judgeMaxCost,
    },
    seed,
    cache,
  });
}
