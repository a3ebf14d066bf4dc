/**
 * What the commands are called, what they say of themselves and which options they have.
 *
 * @module
 */
import { z } from "zod";
import { replaySchema } from "../train/options/replay.ts";
import { evalSchema } from "../train/options/eval.ts";
import { exportSchema } from "../train/options/export.ts";
import { chatSchema } from "../train/options/chat.ts";
import { dataSchema } from "../train/options/data_command.ts";
import { sampleSchema, scoreSchema } from "../train/options/generate.ts";
import { ppoSchema } from "../train/options/ppo.ts";
import { pretrainSchema } from "../train/options/pretrain.ts";
import { rewardSchema } from "../train/options/reward.ts";
import { serveSchema } from "../train/options/serve.ts";
import { sftSchema } from "../train/options/sft.ts";
import { trainSchema } from "../train/options/train.ts";
import type { CommandDefinition } from "./program.ts";

/** A command without its body. */
export type CommandDescription = Omit<CommandDefinition, "load">;

/** Descriptions by name. */
export const DESCRIPTIONS = {
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
  sample: {
    name: "sample",
    summary: "continue prompts with a model",
    description:
      "Samples completions. Rows have prompt, messages or input_ids; out come prompt_ids, completion_ids, completion, logprobs and finish_reason.",
    examples: [
      ["sample --model runs/ppo/model --input prompts.jsonl --temperature 0", "greedy, to standard output"],
      [
        "sample --model DIR --input prompts.jsonl --output out.jsonl --num_return_sequences 4",
        "four different completions of each prompt",
      ],
    ],
    schema: sampleSchema,
  },
  chat: {
    name: "chat",
    summary: "talk with a model, line by line",
    description:
      "A conversation: every line of standard input is a turn, and the answer comes while it is drawn. The model's chat template makes the prompt; where the context is full the oldest exchanges are forgotten. /help lists the commands, Ctrl-C stops an answer.",
    examples: [
      ["chat --model runs/mine", "with what a run has come to"],
      ["chat --model runs/mine@40 --temperature 0", "with its checkpoint of step 40, greedily"],
      ["chat --model org/name --max_new_tokens 100", "with a model on the Hub, in short answers"],
    ],
    schema: chatSchema,
  },
  data: {
    name: "data",
    summary: "show what a dataset is read as",
    description:
      "Reads a dataset and shows its type and format, its rows by file, how long they are, how many a stage would drop or cut, and some rows with the tokens that count in the loss.",
    examples: [
      ["data pairs.jsonl.gz", "type, rows and lengths in characters"],
      [
        "data chats.parquet --model DIR --assistant_only_loss",
        "in tokens, with the assistant's turns scored",
      ],
      ["data 'data/*.parquet' --rows 0 --json", "a summary for a program"],
    ],
    schema: dataSchema,
    argument: "dataset",
  },
  score: {
    name: "score",
    summary: "log-probabilities or rewards of texts",
    description:
      "Scores texts: logprobs and entropy per token with a language model, score with a reward model. Rows have text, prompt and completion, or input_ids.",
    examples: [
      [
        "score --model DIR --input rows.jsonl --output out.jsonl",
        "one log-probability per token after the first",
      ],
      ["score --model runs/reward/model --input rows.jsonl", "one score per row"],
    ],
    schema: scoreSchema,
  },
  eval: {
    name: "eval",
    summary: "perplexity of a language model, accuracy and calibration of a reward model",
    description:
      "Evaluates a model on held-out rows. A language model on texts or demonstrations: perplexity and loss per token, bits per byte, token accuracy, of the tokens that SFT with the same options would count (the end token among them). A reward model on preference pairs: accuracy, mean margin, log-loss, Brier score, and whether sigmoid(margin) can be taken as a probability. A language model on preference pairs: how often the chosen answer is the more likely one, as a whole and per token.",
    examples: [
      ["eval --model runs/sft/model --dataset held_out.jsonl", "perplexity on texts that SFT has not seen"],
      [
        "eval --model runs/reward/model --dataset pairs.jsonl.gz",
        "accuracy and calibration of a reward model",
      ],
      [
        "eval --model DIR --dataset org/name --dataset_split test --json --output rows.jsonl",
        "for a program, with the numbers of every row",
      ],
    ],
    schema: evalSchema,
  },
  export: {
    name: "export",
    summary: "write a model as a Hugging Face directory, a GGUF file or a PEFT adapter",
    description:
      "Writes a model in another form. An adapter is merged into its base, unless it is exported alone. A GGUF file gets the tokenizer and the chat template, too.",
    examples: [
      ["export --model runs/sft/model --output merged", "a directory for transformers; an adapter is merged"],
      ["export --model runs/sft/model --output mine.gguf --dtype q8_0", "one file for llama.cpp and its kin"],
      ["export --model tiny.gguf --output tiny", "a GGUF file as a Hugging Face directory"],
      [
        "export --model runs/sft/model --output adapter --format peft --base_model org/name",
        "the adapter alone, for PEFT and the Hub",
      ],
    ],
    schema: exportSchema,
  },
  replay: {
    name: "replay",
    summary: "run a run again with its journal, and compare every bit",
    description:
      "Runs a run again from its settings and its seed, turning every knob that was turned at the step where it was, and compares metrics, samples, checkpoints and the model. Pauses change nothing, and what a roll-back dropped has left no trace.",
    examples: [
      ["replay runs/x", "the same again, in runs/x-replay"],
      ["replay runs/x --output_dir /tmp/again", "the same, elsewhere"],
    ],
    schema: replaySchema,
    argument: "run",
  },
  serve: {
    name: "serve",
    summary: "start, steer and watch runs over HTTP",
    description:
      "Serves the runs in a directory: an HTTP interface, described by /openapi.json, to make runs, turn their knobs, pause, stop, resume and roll them back, and to read metrics, samples and events as they come. Runs are processes of their own and go on when the server ends.",
    examples: [
      ["serve", "the runs in runs/, at http://127.0.0.1:8686, for this machine alone"],
      ["serve --host 0.0.0.0 --allow_host gpu-box", "for others, too, who have the token"],
    ],
    schema: serveSchema,
  },
  doctor: {
    name: "doctor",
    summary: "show the adapter, what it can do, and what is wrong with this machine",
    description:
      "Shows adapter, driver, features and limits, the chosen kernels and their measured speed, and says in plain words what is wrong.",
    examples: [["doctor", "for reading"], ["doctor --json", "for a program"]],
    schema: z.strictObject({}),
  },
} satisfies Record<string, CommandDescription>;
