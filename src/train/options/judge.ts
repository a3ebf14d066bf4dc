/**
 * Options of a judge: a language model behind an OpenAI-compatible server that reads answers and says how good they are.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, count, option } from "./common.ts";

/** A judge and what it may cost. */
export interface JudgeOptions {
  /** Base address of the server, to which `/chat/completions` is added. */
  judgeUrl?: string;
  /** Name of the model, as the server knows it. */
  judgeModel?: string;
  /** Name of the environment variable that holds the key. */
  judgeApiKeyEnv: string;
  /** A text file that says what a good answer is. */
  judgeRubric?: string;
  /** Most tokens of an answer of the judge. */
  judgeMaxTokens: number;
  /** Sampling temperature of the judge. */
  judgeTemperature: number;
  /** Requests at the same time. */
  judgeConcurrency: number;
  /** Seconds in which the judge must answer. */
  judgeTimeout: number;
  /** Further attempts after one that failed. */
  judgeRetries: number;
  /** Stops the run once so many requests were made. */
  judgeMaxRequests?: number;
  /** Price of a million tokens that the judge reads. */
  judgeInputPrice: number;
  /** Price of a million tokens that the judge writes. */
  judgeOutputPrice: number;
  /** Stops the run once so much was spent, in the currency of the prices. */
  judgeMaxCost?: number;
}

/** Heading in `--help`. */
const group = "Judge";

/** Schema of {@linkcode JudgeOptions}, field by field. */
export const judgeFields = {
  judgeUrl: option(
    group,
    "Base address of an OpenAI-compatible server (llama.cpp, Ollama, vLLM, a hosted one, keel serve), as in http://127.0.0.1:8080/v1; judge_model is asked there for a verdict on every answer.",
    z.url({ protocol: /^https?$/ }).optional(),
  ),
  judgeModel: option(
    group,
    "Name of the judge's model, as its server knows it.",
    z.string().min(1).optional(),
  ),
  judgeApiKeyEnv: option(
    group,
    "Name of the environment variable that holds the key of the judge's server; nothing is sent where it is not set. keel may read OPENAI_API_KEY and KEEL_JUDGE_API_KEY.",
    z.string().regex(/^[A-Za-z_]\w*$/).default("OPENAI_API_KEY"),
  ),
  judgeRubric: option(
    group,
    "Text file that says what a good answer is; it is put into every question. A plain rubric (helpful, right, to the point) if not given.",
    z.string().min(1).optional(),
  ),
  judgeMaxTokens: option(group, "Most tokens of an answer of the judge.", count(1).default(512)),
  judgeTemperature: option(group, "Sampling temperature of the judge.", z.number().min(0).max(2).default(0)),
  judgeConcurrency: option(
    group,
    "Requests to the judge at the same time.",
    count(1).max(1024).default(8),
  ),
  judgeTimeout: option(
    group,
    "Seconds in which the judge must answer.",
    z.number().gt(0).max(86400).default(120),
  ),
  judgeRetries: option(
    group,
    "Further attempts after one that failed (429, 5xx, no answer in time, no connection), with growing pauses; Retry-After is kept to. As often a judge is asked again whose verdict cannot be read, at most three times.",
    count(0).max(100).default(6),
  ),
  judgeMaxRequests: option(
    group,
    "Stops the run before more requests than this are made, repeated ones counted, answers kept from before not.",
    count(1).optional(),
  ),
  judgeInputPrice: option(
    group,
    "Price of a million tokens that the judge reads, for the cost in metrics and judge_max_cost.",
    z.number().min(0).default(0),
  ),
  judgeOutputPrice: option(
    group,
    "Price of a million tokens that the judge writes.",
    z.number().min(0).default(0),
  ),
  judgeMaxCost: option(
    group,
    "Stops the run once the judge has cost this much, by the tokens that its server counts and the two prices.",
    z.number().gt(0).optional(),
  ),
};

const schema = z.strictObject(judgeFields);
true satisfies Agree<z.output<typeof schema>, JudgeOptions>;
