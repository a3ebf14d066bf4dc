/**
 * Rewards that need no model, under TRL's names.
 *
 * @module
 */
import { answerOf, sameAnswer, solutionOf } from "./math_answer.ts";
import { completionText, type RewardBatch } from "./source.ts";

/** Scores a batch; null where the reward does not apply. */
export type RewardFunction = (batch: RewardBatch) => (number | null)[];

/** Numbers that a built-in reward is made with. */
export type RewardParameters = Record<string, number>;

/** A built-in reward. */
interface Builtin {
  /** Its name in metrics, where it differs from the one that options use. */
  metric?: string;
  /** Its parameters and their values where none are given; a function of the longest completion's tokens. */
  parameters: (maxCompletionLength: number) => RewardParameters;
  /** What is wrong with the parameters, if anything. */
  problem?: (given: RewardParameters) => string | undefined;
  make: (given: RewardParameters) => RewardFunction;
}

/** The column `solution`, checked. */
function solutionsOf({ columns, completions }: RewardBatch): string[] {
  const { solution } = columns;
  return completions.map((_, i) => {
    const value = solution?.[i];
    if (typeof value === "number") return String(value);
    if (typeof value === "string") return value;
    const others = Object.keys(columns).filter((name) => name !== "solution").join(", ");
    throw new Error(
      solution === undefined
        ? `This reward compares answers with the column "solution", which the dataset does not have; it has prompt${
          others && `, ${others}`
        }. Give the column with the right answers this name.`
        : `This reward compares answers with the column "solution", which is ${
          JSON.stringify(value)
        } for a prompt. Expected text.`,
    );
  });
}

/** 1 for the answer of the solution, 0 for another or none, null where the solution has no answer that can be read. */
function accuracyOf(text: string, solution: string): number | null {
  const expected = solutionOf(solution);
  if (expected === null) return null;
  const given = answerOf(text);
  return given !== null && sameAnswer(expected, given) ? 1 : 0;
}

function accuracy(batch: RewardBatch): (number | null)[] {
  const solutions = solutionsOf(batch);
  return batch.completions.map((completion, i) => accuracyOf(completionText(completion), solutions[i]));
}

/** The same of what stands after the reasoning; 0 where that did not end. */
function reasoningAccuracy(batch: RewardBatch): (number | null)[] {
  const solutions = solutionsOf(batch), end = "</think>";
  return batch.completions.map((completion, i) => {
    const text = completionText(completion), at = text.lastIndexOf(end);
    return at < 0 ? 0 : accuracyOf(text.slice(at + end.length), solutions[i]);
  });
}

/** 1 for a text that begins with one <think> and has </think> after it. */
function thinkFormat({ completions }: RewardBatch): number[] {
  const open = "<think>";
  return completions.map((completion) => {
    const text = completionText(completion);
    const formed = text.startsWith(open) && text.lastIndexOf(open) === 0 &&
      text.indexOf("</think>", open.length) >= 0;
    return formed ? 1 : 0;
  });
}

/**
 * Accuracy scaled by length n: v_min + ½(v_max − v_min)(1 + cos(π·min(1, n / max_len))), so that short right answers earn more and short
 * wrong ones lose more (arXiv 2502.03373, appendix C.1).
 */
function cosineScaled(given: RewardParameters): RewardFunction {
  const { max_len, min_value_wrong, max_value_wrong, min_value_correct, max_value_correct } = given;
  return (batch) =>
    accuracy(batch).map((right, i) => {
      if (right === null) return null;
      const [low, high] = right ? [min_value_correct, max_value_correct] : [max_value_wrong, min_value_wrong];
      const progress = Math.min(1, batch.completionIds[i].length / max_len);
      return low + 0.5 * (high - low) * (1 + Math.cos(Math.PI * progress));
    });
}

/** max_penalty times the share of n-grams of tokens that were there before (arXiv 2502.03373, appendix C.2). */
function repetitionPenalty({ ngram_size, max_penalty }: RewardParameters): RewardFunction {
  return ({ completionIds }) =>
    completionIds.map((ids) => {
      const total = ids.length - ngram_size + 1;
      if (total < 1) return 0;
      const seen = new Set(
        Array.from({ length: total }, (_, i) => ids.slice(i, i + ngram_size).join()),
      );
      return (1 - seen.size / total) * max_penalty;
    });
}

/** 0 up to max_completion_len − soft_punish_cache tokens, falling to −1 at max_completion_len, −1 beyond (DAPO, arXiv 2503.14476, eq. 13). */
function softOverlong(
  { max_completion_len: most, soft_punish_cache: cache }: RewardParameters,
): RewardFunction {
  return ({ completionIds }) =>
    completionIds.map(({ length }) =>
      length <= most - cache ? 0 : length <= most ? (most - cache - length) / cache : -1
    );
}

/** −|tokens − target|. */
function lengthReward({ target }: RewardParameters): RewardFunction {
  return ({ completionIds }) => completionIds.map(({ length }) => -Math.abs(length - target));
}

const none = () => ({});

const BUILTINS: Record<string, Builtin> = {
  accuracy_reward: { parameters: none, make: () => accuracy },
  reasoning_accuracy_reward: { parameters: none, make: () => reasoningAccuracy },
  think_format_reward: { parameters: none, make: () => thinkFormat },
  get_cosine_scaled_reward: {
    metric: "cosine_scaled_reward",
    parameters: (longest) => ({
      max_len: longest,
      min_value_wrong: -1,
      max_value_wrong: -0.5,
      min_value_correct: 0.5,
      max_value_correct: 1,
    }),
    problem: ({ max_len }) => max_len > 0 ? undefined : "max_len must be above 0",
    make: cosineScaled,
  },
  get_repetition_penalty_reward: {
    metric: "repetition_penalty_reward",
    parameters: () => ({ ngram_size: 3, max_penalty: -1 }),
    problem: ({ ngram_size, max_penalty }) =>
      !Number.isInteger(ngram_size) || ngram_size < 1
        ? "ngram_size must be a whole number of at least 1"
        : max_penalty > 0
        ? "max_penalty must not be above 0"
        : undefined,
    make: repetitionPenalty,
  },
  get_soft_overlong_punishment: {
    metric: "soft_overlong_punishment_reward",
    parameters: (longest) => ({
      max_completion_len: longest,
      soft_punish_cache: Math.max(1, Math.round(longest / 5)),
    }),
    problem: ({ max_completion_len: most, soft_punish_cache: cache }) =>
      cache > 0 && cache <= most
        ? undefined
        : "soft_punish_cache must be above 0 and at most max_completion_len",
    make: softOverlong,
  },
  length_reward: { parameters: () => ({ target: 20 }), make: lengthReward },
};

/** Names of the built-in rewards. */
export const BUILTIN_NAMES: string[] = Object.keys(BUILTINS);

/** A built-in reward that was asked for. */
export interface NamedReward {
  /** Its name in metrics. */
  name: string;
  /** Scores a batch. */
  score: RewardFunction;
}

/**
 * The built-in reward that `text` names, with parameters behind colons: `get_repetition_penalty_reward:ngram_size=4`.
 *
 * @param maxCompletionLength most tokens of a completion, from which the parameters that are lengths follow
 * @throws {Error} for an unknown name or parameter
 */
export function builtinReward(text: string, maxCompletionLength: number): NamedReward {
  const [name, ...settings] = text.split(":");
  const builtin = Object.hasOwn(BUILTINS, name) ? BUILTINS[name] : undefined;
  if (!builtin) {
    throw new Error(
      `There is no built-in reward ${JSON.stringify(name)}. Expected one of ${
        BUILTIN_NAMES.join(", ")
      }, or a file (.ts, .js) of reward functions.`,
    );
  }
  const parameters = builtin.parameters(maxCompletionLength);
  for (const setting of settings) {
    const [key, value] = setting.split("=");
    if (!Object.hasOwn(parameters, key) || !value?.trim() || !Number.isFinite(Number(value))) {
      const known = Object.keys(parameters).map((one) => `${one}=number`).join(", ") || "none";
      throw new Error(`${name}: got the parameter ${JSON.stringify(setting)}. Expected ${known}.`);
    }
    parameters[key] = Number(value);
  }
  const problem = builtin.problem?.(parameters);
  if (problem) throw new Error(`${name}: ${problem}. Got ${JSON.stringify(parameters)}.`);
  return { name: builtin.metric ?? name, score: builtin.make(parameters) };
}
