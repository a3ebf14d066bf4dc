/**
 * The same of all other commands.
 *
 * @module
 */
import { z } from "zod";
import { replaySchema } from "../train/options/replay.ts";
import { evalSchema } from "../train/options/eval.ts";
import { exportSchema } from "../train/options/export.ts";
import { bonSchema } from "../train/options/bon.ts";
import { labelSchema } from "../train/options/label.ts";
import { chatSchema } from "../train/options/chat.ts";
import { dataSchema } from "../train/options/data_command.ts";
import { sampleSchema, scoreSchema } from "../train/options/generate.ts";
import { serveSchema } from "../train/options/serve.ts";
import type { CommandDescription } from "./program.ts";

/** Descriptions by name. */
export const TOOLS = {
  label: {
    name: "label",
    summary: "make preference pairs: sample answers and have them judged",
    description:
      "Samples answers of a policy to each prompt and has them labelled: by a judge behind an OpenAI-compatible server, by reward models, functions or an endpoint. Writes pairs.jsonl, rows that keel reward and keel dpo read, and report.json: ties, how often labellers agree, how often the judge's verdict follows the place. Prompts that are finished are kept, and a judge is never asked the same twice, so --resume goes on after any kill.",
    examples: [
      [
        "label --model runs/sft --dataset prompts.jsonl --judge_url http://127.0.0.1:8080/v1 --judge_model qwen --output_dir runs/labels",
        "pairs by a judge of your own, each shown in both orders",
      ],
      [
        "label --model runs/sft --dataset prompts.jsonl --reward_model runs/rm/model --num_generations 8 --output_dir runs/labels",
        "the best of eight with the worst, by a reward model",
      ],
      [
        "label --config label.yaml --reward_model runs/rm/model --label_by judge",
        "the judge decides; the report says how often the reward model agrees",
      ],
    ],
    schema: labelSchema,
  },
  bon: {
    name: "bon",
    summary: "best of n: sample, score, keep the best, and show what n buys",
    description:
      "Samples n answers of a policy to each prompt, scores them with a proxy (reward models, functions, an endpoint, a judge) and keeps the best. Writes best.jsonl, rows that keel sft reads, and report.json: proxy and, with a gold reward, gold for n = 1, 2, 4 ... against the KL of best-of-n, ln n - (n - 1)/n: the frontier that training has to beat. Where gold falls while the proxy rises, the proxy is over-optimised.",
    examples: [
      [
        "bon --model runs/sft --dataset prompts.jsonl --reward_model runs/rm/model --output_dir runs/bon",
        "the best of 16 by a reward model, as demonstrations",
      ],
      [
        "bon --model runs/sft --dataset prompts.jsonl --reward_model runs/rm/model --gold_model runs/gold/model --num_generations 64 --output_dir runs/bon",
        "how far a proxy can be pushed before a better judge disagrees",
      ],
    ],
    schema: bonSchema,
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
