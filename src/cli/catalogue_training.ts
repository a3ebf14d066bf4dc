/**
 * What the commands that train are called, what they say of themselves and which options they have.
 *
 * @module
 */
import { cpoSchema } from "../train/options/cpo.ts";
import { dpoSchema } from "../train/options/dpo.ts";
import { ktoSchema } from "../train/options/kto.ts";
import { onlineDpoSchema } from "../train/options/online_dpo.ts";
import { orpoSchema } from "../train/options/orpo.ts";
import { grpoSchema } from "../train/options/grpo.ts";
import { ppoSchema } from "../train/options/ppo.ts";
import { reinforceSchema } from "../train/options/reinforce.ts";
import { rlaifSchema } from "../train/options/rlaif.ts";
import { rlooSchema } from "../train/options/rloo.ts";
import { pretrainSchema } from "../train/options/pretrain.ts";
import { rewardSchema } from "../train/options/reward.ts";
import { sftSchema } from "../train/options/sft.ts";
import { trainSchema } from "../train/options/train.ts";
import type { CommandDescription } from "./program.ts";

/** Descriptions by name. */
export const TRAINING = {
  train: {
    name: "train",
    summary: "the whole job: base model, SFT, reward model, PPO, and a report",
    description:
      "Takes a base model through supervised fine-tuning, a reward model and PPO with r = R(x, y) - beta*KL, and shows what happened. Without a model and a dataset it trains the parrot, a tiny model in a tiny world where over-optimisation can be seen in minutes.",
    examples: [
      ["train", "the parrot: gold stays up, held by the KL penalty"],
      ["train --kl_coef 0 --output_dir runs/fall", "no penalty: the proxy climbs, gold peaks and falls"],
      [
        "train --kl_coef 0 --annotators unbiased --output_dir runs/control",
        "the control: nothing to exploit",
      ],
      [
        "train --model DIR --dataset pairs.jsonl.gz --output_dir runs/mine",
        "the same three stages on a model and pairs of your own",
      ],
    ],
    schema: trainSchema,
  },
  sft: {
    name: "sft",
    summary: "fine-tune a model on texts or demonstrations",
    description:
      "Supervised fine-tuning: the model learns to continue documents, or to answer prompts as the demonstrations do. Rows have text, messages, or prompt and completion.",
    examples: [
      [
        "sft --model DIR --dataset demos.jsonl --output_dir runs/sft",
        "three passes over demos.jsonl, loss on completions only",
      ],
      [
        "sft --config sft.yaml --learning_rate 1e-4 --max_steps 200",
        "a TRL configuration, two values replaced",
      ],
      ["sft --config sft.yaml --resume", "go on with a run that was stopped"],
    ],
    schema: sftSchema,
  },
  reward: {
    name: "reward",
    summary: "train a reward model on preferences",
    description:
      "Reward modelling (Bradley-Terry): the model learns to score the chosen answer above the rejected one. Rows have chosen and rejected, with or without prompt.",
    examples: [
      [
        "reward --model runs/sft/model --dataset pairs.jsonl.gz --output_dir runs/reward",
        "one score per text, read at its last token",
      ],
      [
        "reward --config reward.yaml --eval_dataset held_out.jsonl --eval_steps 50",
        "with accuracy on held-out pairs every 50 steps",
      ],
    ],
    schema: rewardSchema,
  },
  ppo: {
    name: "ppo",
    summary: "train a policy against a reward model, held near its start by a KL penalty",
    description:
      "PPO with r = R(x, y) - beta*KL(policy || SFT model). Rows have prompt. A step samples one batch of completions, scores them, and learns from them.",
    examples: [
      [
        "ppo --model runs/sft/model --reward_model runs/reward/model --dataset prompts.jsonl --output_dir runs/ppo",
        "TRL's defaults",
      ],
      ["ppo --config ppo.yaml --kl_coef 0.2 --kl_estimator k3", "a stronger penalty, another estimator"],
      ["ppo --config ppo.yaml --adap_kl_ctrl --target 6", "beta adapts to keep KL near 6 nats per sequence"],
    ],
    schema: ppoSchema,
  },
  grpo: {
    name: "grpo",
    summary: "train a policy against rewards, comparing several answers to each prompt",
    description:
      "Group relative policy optimisation and its kin: several completions of each prompt are sampled, scored, and compared with each other, so that no critic is needed. Rewards come from reward models, functions of your own, built-in ones, a server or a judge, or several of these. Rows have prompt; further columns go to the reward functions. A step is one optimiser step.",
    examples: [
      [
        "grpo --model runs/sft/model --dataset gsm8k.jsonl --reward_funcs accuracy_reward --output_dir runs/grpo",
        "answers compared with the column solution, TRL's defaults",
      ],
      [
        "grpo --model DIR --dataset prompts.jsonl --reward_model runs/reward/model --reward_funcs rewards.ts --reward_weights 1,0.2 --output_dir runs/both",
        "a reward model and every function that rewards.ts exports",
      ],
      [
        "grpo --config grpo.yaml --epsilon_high 0.28 --dynamic_sampling --mask_truncated_completions",
        "as DAPO: clip higher, and only groups that differ",
      ],
      ["grpo --config grpo.yaml --importance_sampling_level sequence --epsilon 3e-4", "as GSPO"],
      ["grpo --config grpo.yaml --loss_type dr_grpo --scale_rewards none", "as Dr. GRPO"],
    ],
    schema: grpoSchema,
  },
  rloo: {
    name: "rloo",
    summary: "train a policy against rewards, with the other answers' mean as the baseline",
    description:
      "REINFORCE leave-one-out: the reward of a completion, less beta times its KL to the start, is compared with the mean of the others of its prompt. --kl_placement and --loss_level choose between what TRL, OpenRLHF and verl put under this name; the defaults are TRL's.",
    examples: [
      [
        "rloo --model runs/sft/model --dataset prompts.jsonl --reward_model runs/reward/model --num_generations 4 --output_dir runs/rloo",
        "four completions of each prompt against a reward model",
      ],
      ["rloo --config rloo.yaml --loss_level token --kl_placement reward_to_go", "as OpenRLHF has it"],
    ],
    schema: rlooSchema,
  },
  reinforce: {
    name: "reinforce",
    summary: "train a policy against rewards without critic or groups: REINFORCE++",
    description:
      "REINFORCE++: every token's advantage is the return from it on, a KL penalty per token included, normalised over all tokens of the batch. One completion of each prompt is enough; --advantage_estimator reinforce_baseline compares several first. Defaults are OpenRLHF's.",
    examples: [
      [
        "reinforce --model runs/sft/model --dataset prompts.jsonl --reward_model runs/reward/model --output_dir runs/reinforce",
        "one completion of each prompt",
      ],
      [
        "reinforce --config reinforce.yaml --advantage_estimator reinforce_baseline --num_generations 8 --kl_placement loss --kl_estimator k2 --beta 1e-5",
        "OpenRLHF's recipe with a baseline",
      ],
    ],
    schema: reinforceSchema,
  },
  "online-dpo": {
    name: "online-dpo",
    summary: "train a policy on pairs of its own answers, as rewards or a judge compare them",
    description:
      "Online DPO: the policy answers each prompt twice, rewards or a judge say which answer is better, and DPO's loss is taken of that pair. A judge is shown both answers in both orders; a pair that nobody can decide teaches nothing. Rows have prompt. A step is one batch of prompts.",
    examples: [
      [
        "online-dpo --model runs/sft/model --dataset prompts.jsonl --reward_model runs/reward/model --output_dir runs/online",
        "a reward model says which answer is better",
      ],
      [
        "online-dpo --model DIR --dataset prompts.jsonl --judge_url http://127.0.0.1:8080/v1 --judge_model qwen --output_dir runs/judged",
        "a judge says so",
      ],
    ],
    schema: onlineDpoSchema,
  },
  dpo: {
    name: "dpo",
    summary: "train a policy on preferences directly, held near its start",
    description:
      "Direct preference optimisation and its kin: the policy learns to prefer the chosen answer to the rejected one, beside a frozen reference, without a reward model and without sampling. Rows have prompt, chosen and rejected, or chosen and rejected with the prompt in both. rewards/accuracies says how often the policy ranks a pair right.",
    examples: [
      [
        "dpo --model runs/sft/model --dataset pairs.jsonl.gz --output_dir runs/dpo",
        "TRL's defaults: beta 0.1, learning rate 1e-6",
      ],
      [
        "dpo --config dpo.yaml --eval_dataset held_out.jsonl --eval_steps 50 --precompute_ref_log_probs",
        "with accuracy on held-out pairs; the reference is scored once and not kept",
      ],
      ["dpo --config dpo.yaml --loss_type sigmoid,sft --loss_weights 1,0.2", "two losses added up"],
    ],
    schema: dpoSchema,
  },
  kto: {
    name: "kto",
    summary: "train a policy on answers that are good or bad, without pairs",
    description:
      "Kahneman-Tversky optimisation: the policy learns from single answers with a label, beside a frozen reference. Rows have prompt, completion and label (true or false); pairs are taken apart. The KL divergence that answers are compared with is estimated in each micro-batch, from its prompts with each other's answers.",
    examples: [
      ["kto --model runs/sft/model --dataset thumbs.jsonl --output_dir runs/kto", "TRL's defaults"],
      ["kto --config kto.yaml --undesirable_weight 1.5", "bad answers count for more"],
    ],
    schema: ktoSchema,
  },
  orpo: {
    name: "orpo",
    summary: "learn demonstrations and preferences at once, without a reference",
    description:
      "Odds-ratio preference optimisation: supervised learning of prompts with their chosen answers, and a penalty on the odds of the rejected ones. Rows are those of dpo, and the model need not be fine-tuned before.",
    examples: [
      [
        "orpo --model DIR --dataset pairs.jsonl.gz --output_dir runs/orpo --learning_rate 8e-6",
        "from a base model",
      ],
      ["orpo --config orpo.yaml --beta 0.2", "a stronger penalty on the rejected answers"],
    ],
    schema: orpoSchema,
  },
  cpo: {
    name: "cpo",
    summary: "train a policy on preferences without a reference: CPO, SimPO, AlphaPO",
    description:
      "Contrastive preference optimisation: DPO's comparison without a reference, beside the likelihood of the chosen answers. --loss_type simpo compares log-probabilities per token and wants a margin. Rows are those of dpo.",
    examples: [
      ["cpo --model runs/sft/model --dataset pairs.jsonl.gz --output_dir runs/cpo", "TRL's defaults"],
      [
        "cpo --config cpo.yaml --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
        "SimPO as its paper has it",
      ],
    ],
    schema: cpoSchema,
  },
  rlaif: {
    name: "rlaif",
    summary: "the whole of RLAIF: answers, a judge's preferences, a better policy",
    description:
      "Samples answers of a policy, has them labelled as keel label does, trains the policy on the pairs (DPO), or a reward model on them and the policy against it (PPO), and has the judge compare the result with the start on prompts that were held out. Every stage is a folder of the run; --resume goes on after any kill, and a judge is never asked the same twice.",
    examples: [
      [
        "rlaif --model runs/sft/model --dataset prompts.jsonl --judge_url http://127.0.0.1:8080/v1 --judge_model qwen --output_dir runs/rlaif",
        "pairs by a judge of your own, then DPO",
      ],
      [
        "rlaif --config rlaif.yaml --method ppo --num_generations 4 --judge_max_requests 5000",
        "a reward model of the judge's preferences and PPO, with a limit on what is asked",
      ],
      [
        "rlaif --model DIR --dataset prompts.jsonl --reward_funcs rewards.ts --output_dir runs/functions",
        "functions of your own in the judge's stead",
      ],
    ],
    schema: rlaifSchema,
  },
  pretrain: {
    name: "pretrain",
    summary: "train a model from random weights",
    description:
      "Pre-training on text. Without a model and a dataset, it makes the base model of the embedded default.",
    examples: [
      ["pretrain --output_dir runs/base", "the base model of keel train, as it was made"],
      [
        "pretrain --model DIR --dataset texts.jsonl --output_dir runs/small --max_steps 1000",
        "config.json and tokenizer.json of DIR, fresh weights",
      ],
    ],
    schema: pretrainSchema,
  },
} satisfies Record<string, CommandDescription>;
