/**
 * Shapes of OpenAI's API as far as it is spoken here, and of `/v1/score`. What OpenAI has and keel has not is refused by name,
 * unless it is given the value that means nothing.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { value } from "../schemas.ts";
import {
  LONGEST_STOP,
  MOST_CHARACTERS,
  MOST_MESSAGES,
  MOST_PROMPTS,
  MOST_ROWS,
  MOST_SCORED,
  MOST_STOPS,
  MOST_TOKENS,
} from "./limits.ts";

const says = (description: string) => ({ description });

/** What keel does not do: only the value that means nothing passes. */
const NOT_DONE = "keel does not do this; leave it out";
const nothing = z.null(NOT_DONE).optional();
const exactly = (value: number) => z.int(NOT_DONE).min(value, NOT_DONE).max(value, NOT_DONE).nullish();
const zero = exactly(0);
const no = z.boolean().refine((value) => !value, NOT_DONE).nullish().openapi({ not: { const: true } });
const none = z.array(z.unknown()).max(0, NOT_DONE).nullish();
const empty = z.record(z.string(), z.unknown()).refine((map) => !Object.keys(map).length, NOT_DONE).nullish()
  .openapi({ type: ["object", "null"], maxProperties: 0 });

/** What changes nothing about an answer. */
const label = z.string().max(1000).nullish().meta(says("Changes nothing."));

const text = z.string().min(1).max(MOST_CHARACTERS);
const ids = z.array(z.int().min(0).max(2 ** 31 - 1)).min(1).max(MOST_TOKENS);

const modelName = z.string().min(1).max(200).meta({
  description: "A run (its policy), a stage of one, or a checkpoint; GET /v1/models lists them.",
  examples: ["mine", "mine/reward", "mine/ppo@40"],
});

/** Fields of both kinds of completions. */
const sampling = {
  model: modelName,
  temperature: z.number().min(0).max(100).nullish().meta(
    says("0 for greedy; anything else below 0.001 counts as that. 1 if not given."),
  ),
  top_p: z.number().gt(0).max(1).nullish().meta(says("Draw from the most likely tokens of this mass.")),
  top_k: z.int().min(-1).max(2 ** 31 - 1).nullish().meta(
    says("Draw from the k most likely tokens; 0 and -1 for all. As in vLLM."),
  ),
  n: z.int().min(1).max(MOST_ROWS).nullish().meta(says("Completions of each prompt; 1 if not given.")),
  seed: z.int().min(0).nullish().meta(
    says(
      "Determines the completions of a prompt, whatever stands beside it; others every time if not given.",
    ),
  ),
  stop: z.union([
    z.string().min(1).max(LONGEST_STOP),
    z.array(z.string().min(1).max(LONGEST_STOP)).max(MOST_STOPS),
  ]).nullish().meta(says(`Texts before which a completion ends, at most ${MOST_STOPS}.`)),
  ignore_eos: z.boolean().nullish().meta(says("Go on after the end token. As in vLLM.")),
  stream: z.boolean().nullish().meta(says("Server-sent events as the tokens are drawn.")),
  stream_options: z.strictObject({ include_usage: z.boolean().nullish() }).nullish(),
  frequency_penalty: zero,
  presence_penalty: zero,
  logit_bias: empty,
  user: label,
};

export const completionRequest = z.strictObject({
  ...sampling,
  prompt: z.union([
    text,
    z.array(text).min(1).max(MOST_PROMPTS),
    ids,
    z.array(ids).min(1).max(MOST_PROMPTS),
  ], `expected a text, token ids, or a list of at most ${MOST_PROMPTS} of either, none of them empty`).meta(
    says("A text, token ids, or a list of either."),
  ),
  max_tokens: z.int().min(1).max(MOST_TOKENS).nullish().meta(says("16 if not given.")),
  logprobs: zero.meta(says("0 for the log-probabilities of the drawn tokens; others are not told.")),
  best_of: exactly(1),
  echo: no,
  suffix: nothing,
}).openapi("CompletionRequest", {
  example: {
    model: "mine",
    prompt: "<user> i know that 3 plus 4 is 4 . <bot>",
    max_tokens: 12,
    temperature: 0,
  },
});

const message = z.strictObject({
  role: z.string().min(1).max(64).meta({ examples: ["system", "user", "assistant"] }),
  content: z.string().max(MOST_CHARACTERS),
  name: z.string().max(64).optional(),
});

const messages = z.array(message).min(1).max(MOST_MESSAGES);

export const chatRequest = z.strictObject({
  ...sampling,
  messages,
  max_completion_tokens: z.int().min(1).max(MOST_TOKENS).nullish().meta(
    says("As many as there is room for if not given."),
  ),
  max_tokens: z.int().min(1).max(MOST_TOKENS).nullish().meta(
    says("The older name of max_completion_tokens."),
  ),
  logprobs: z.boolean().nullish().meta(says("Tell the log-probabilities of the drawn tokens.")),
  top_logprobs: zero,
  tools: none,
  tool_choice: z.enum(["none", "auto"], NOT_DONE).optional(),
  parallel_tool_calls: z.boolean().nullish().meta(says("Changes nothing.")),
  functions: none,
  function_call: z.enum(["none", "auto"], NOT_DONE).optional(),
  response_format: z.strictObject({ type: z.literal("text", NOT_DONE) }).optional(),
  modalities: z.array(z.literal("text", NOT_DONE)).max(1, NOT_DONE).optional(),
  audio: nothing,
  prediction: nothing,
  reasoning_effort: nothing,
  verbosity: nothing,
  web_search_options: nothing,
  store: no,
  service_tier: z.enum(["auto", "default"], NOT_DONE).optional(),
  metadata: z.record(z.string(), z.string()).nullish().meta(says("Changes nothing.")),
  safety_identifier: label,
  prompt_cache_key: label,
}).openapi("ChatRequest", {
  example: {
    model: "mine",
    messages: [{ role: "user", content: "i know that 3 plus 4 is 4 ." }],
    max_completion_tokens: 12,
  },
});

const content = z.union([text, messages]);

export const scoreRequest = z.strictObject({
  model: modelName,
  rows: z.array(z.union([
    z.strictObject({ text: content }),
    z.strictObject({ prompt: content, completion: content }),
    z.strictObject({ input_ids: ids }),
  ], "expected text, prompt and completion, or input_ids, none of them empty")).min(1).max(MOST_SCORED),
  temperature: z.number().min(1e-3).max(100).default(1).meta(
    says("Log-probabilities are of logits divided by this."),
  ),
  completion_only: z.boolean().default(false).meta(says("Leave out the tokens of prompts.")),
}).openapi("ScoreRequest", {
  example: {
    model: "mine",
    rows: [{ prompt: "<user> i know that 3 plus 4 is 4 . <bot>", completion: " no , 3 plus 4 is 7 ." }],
  },
});

const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
}).openapi("Usage");

const finishReason = z.enum(["stop", "length"]).meta(says("stop: the end token or a stop string."));

const head = {
  id: z.string(),
  created: z.int().meta(says("Unix time in seconds.")),
  model: z.string().meta(says("Exactly which model it was: mine/ppo, or mine/ppo@40.")),
};

export const completion = z.object({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(z.object({
    index: z.int().meta(says("All completions of the first prompt, then those of the second, …")),
    text: z.string(),
    logprobs: z.object({
      tokens: z.array(z.string()).meta(says("The text that became whole with each token.")),
      token_logprobs: z.array(value).meta(
        says("Under the whole distribution at this temperature, at 1 for greedy."),
      ),
    }).nullable(),
    finish_reason: finishReason,
  })),
  usage,
}).openapi("Completion");

export const chatCompletion = z.object({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(z.object({
    index: z.int(),
    message: z.object({ role: z.literal("assistant"), content: z.string(), refusal: z.null() }),
    logprobs: z.object({
      content: z.array(z.object({
        token: z.string(),
        logprob: value,
        bytes: z.array(z.int()).nullable(),
        top_logprobs: z.array(z.unknown()),
      })),
      refusal: z.null(),
    }).nullable(),
    finish_reason: finishReason,
  })),
  usage,
}).openapi("ChatCompletion");

export const scores = z.object({
  object: z.literal("list"),
  created: head.created,
  model: head.model,
  rows: z.array(z.object({
    input_ids: z.array(z.int()),
    logprobs: z.array(value).optional().meta(says("Of each token after the first.")),
    entropy: z.array(value).optional().meta(
      says("In nats, of the distribution that the token was drawn from."),
    ),
    score: value.optional(),
  })).meta(says("logprobs and entropy with a language model, score with a reward model.")),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
}).openapi("Scores");

export const models = z.object({
  object: z.literal("list"),
  data: z.array(z.object({
    id: z.string().meta(says("What to give as model.")),
    object: z.literal("model"),
    created: z.int().meta(says("Unix time in seconds at which its weights were written.")),
    owned_by: z.literal("keel"),
    root: z.string().meta(says("The name that stays with these weights: mine may move on.")),
    kind: z.enum(["language", "reward"]),
    run: z.string(),
    stage: z.string(),
    step: z.int().nullable().meta(says("The checkpoint's step; null for the result of a stage.")),
  })),
  truncated: z.boolean(),
}).openapi("Models");
