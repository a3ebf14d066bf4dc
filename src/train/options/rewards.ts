/**
 * Options that say where rewards come from: reward models, functions, an HTTP endpoint, a judge. Methods that learn from rewards of whole
 * completions spread these fields into their schema.
 *
 * @module
 */
import { z } from "zod";
import { BUILTIN_NAMES } from "../../reward/builtin.ts";
import { type Agree, count, option } from "./common.ts";
import { judgeFields, type JudgeOptions } from "./judge.ts";

/** Where rewards come from. */
export interface RewardSourceOptions extends JudgeOptions {
  /** Reward models. */
  rewardModelPath?: string[];
  /** How the scores of several reward models become one; `none`: each is a reward of its own. */
  rewardEnsemble: "none" | "mean" | "min" | "uncertainty";
  /** λ in mean − λ·variance. */
  rewardEnsembleLambda: number;
  /** Built-in rewards, and files of reward functions. */
  rewardFuncs?: string[];
  /** Address of a server that scores texts. */
  rewardUrl?: string;
  /** Seconds in which the server must answer. */
  rewardTimeout: number;
  /** Further attempts after one that failed. */
  rewardRetries: number;
  /** Column that the server is sent as `labels`. */
  rewardLabelColumn?: string;
  /** One weight per reward, in the order of the options above: models, functions, endpoint, judge. */
  rewardWeights?: number[];
}

/** Heading in `--help`. */
const group = "Sources of rewards";

const names = z.union([z.array(z.string().min(1)).min(1), z.string().min(1)]).transform((given) =>
  [given].flat()
);

/** Schema of {@linkcode RewardSourceOptions}, field by field. */
export const rewardFields = {
  rewardModelPath: option(
    group,
    "Reward models: directories or names on the Hub, several by commas. Each reads prompt and completion and scores them at the last token. One with another tokenizer than the policy's reads the text anew.",
    names.optional(),
    ["reward_model", "reward_model_name_or_path"],
  ),
  rewardEnsemble: option(
    group,
    "Several reward models as one reward: their mean, the smallest score (min), or uncertainty: mean - lambda * variance; an error that one of them has alone then earns little (arXiv 2310.02743). none: each is a reward of its own.",
    z.enum(["none", "mean", "min", "uncertainty"]).default("none"),
  ),
  rewardEnsembleLambda: option(
    group,
    "Lambda of reward_ensemble uncertainty.",
    z.number().min(0).default(0.1),
  ),
  rewardFuncs: option(
    group,
    `Reward functions, several by commas: built-in ones (${
      BUILTIN_NAMES.join(", ")
    }; parameters behind colons, as in get_repetition_penalty_reward:ngram_size=4), or FILE.ts, of which every exported function is a reward. It gets one object with prompts, completions, completion_ids, trainer_state and every further column of the dataset, and returns a list of numbers, null where it does not apply. It is your own code and may do what keel may.`,
    names.optional(),
  ),
  rewardUrl: option(
    group,
    'Address of a server that scores texts, as in OpenRLHF: it is sent {"query": [...], "prompts": [...], "labels": [...]} and answers {"rewards": [...]}.',
    z.url({ protocol: /^https?$/ }).optional(),
  ),
  rewardTimeout: option(
    group,
    "Seconds in which the server at reward_url must answer.",
    z.number().gt(0).max(86400).default(300),
  ),
  rewardRetries: option(
    group,
    "Further attempts at reward_url after one that failed, with growing pauses.",
    count(0).max(100).default(5),
  ),
  rewardLabelColumn: option(
    group,
    "Column of the dataset that is sent to reward_url as labels, as in answer.",
    z.string().min(1).optional(),
  ),
  ...judgeFields,
  rewardWeights: option(
    group,
    "Weight of each reward, in the order models (or their ensemble), functions, endpoint, judge; functions of a file by the order of their names. 1 each if not given. The reward is the weighted sum of those that apply.",
    z.union([z.array(z.number()), z.number()]).transform((given) => [given].flat()).optional(),
  ),
};

const schema = z.strictObject(rewardFields);
true satisfies Agree<z.output<typeof schema>, RewardSourceOptions>;
