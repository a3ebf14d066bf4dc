/** TRL's recorded PPO functions (`tests/goldens/trl/ppo_functions`) as rollouts. */
import { readFileSync } from "node:fs";
import { readSafetensors } from "../../src/model/safetensors.ts";
import type { Rollout } from "../../src/train/rollout.ts";
import { golden } from "../assets.ts";

/** One recorded call. */
export interface Case {
  id: string;
  kind: "rollout" | "loss";
  config: Record<string, number | string | boolean>;
  micro_batch_inds: number[];
  loss: number;
  metrics: Record<string, number>;
}

const json = JSON.parse(readFileSync(golden("trl/ppo_functions.json"), "utf8"));

/** The recorded tensors. */
export const tensors = readSafetensors(golden("trl/ppo_functions.safetensors"));

/** The recorded calls of one kind. */
export const cases = (kind: Case["kind"]) => (json.cases as Case[]).filter((one) => one.kind === kind);

/** Traces of TRL's adaptive KL controller. */
export const klTraces = json.adaptive_kl.traces as {
  init_kl_coef: number;
  target: number;
  horizon: number;
  trace: { current: number; n_steps: number; value: number }[];
}[];

/** Rows and tokens of the recorded responses, and tokens of the prompts before them. */
export const ROWS = 6, TIME = 11, CONTEXT = 4;

/** Tokens of each recorded response, the end token included. */
export const LENGTHS = Array.from(tensors.readIntegers("sequence_lengths"), (last) => last + 1);

/** Row `i` of a recorded [rows, time] tensor. */
export const rowOf = (name: string, i: number) => tensors.read(name).subarray(i * TIME, (i + 1) * TIME);

/** The recorded responses with log-probabilities, values and scores. */
export function recordedRollouts(names = { logprobs: "in/logprobs", values: "in/values" }): Rollout[] {
  const responses = tensors.readIntegers("in/responses"), scores = tensors.read("in/scores");
  return LENGTHS.map((length, i) => {
    const completion = Array.from(responses.subarray(i * TIME, i * TIME + length));
    const numbers = (name: string, extra = 0) =>
      Float64Array.from({ length: length + extra }, (_, t) => rowOf(name, i)[t] ?? 0);
    return {
      prompt: new Array(CONTEXT).fill(3),
      completion,
      ended: completion.includes(json.eos_token_id),
      logprobs: numbers(names.logprobs),
      refLogprobs: numbers("in/ref_logprobs"),
      entropy: new Float64Array(length),
      exactKl: new Float64Array(length),
      values: numbers(names.values, 1),
      score: scores[i],
    };
  });
}
