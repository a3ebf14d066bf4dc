/** Runs of the trainers on preferences, for `smallRun`. */
import type { PreferenceExample } from "../../src/data/preference.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { frozenCopy } from "../../src/model/blend.ts";
import type { Model } from "../../src/model/decoder.ts";
import { makeAdapted } from "../../src/model/peft.ts";
import type { StageRun } from "../../src/run/run.ts";
import { cpo } from "../../src/train/cpo.ts";
import { dpo } from "../../src/train/dpo.ts";
import type { StepEvent } from "../../src/train/events.ts";
import { kto } from "../../src/train/kto.ts";
import { cpoOptions, dpoOptions, ktoOptions, orpoOptions } from "../../src/train/options/defaults.ts";
import type { CpoOptions } from "../../src/train/options/cpo.ts";
import type { DpoOptions } from "../../src/train/options/dpo.ts";
import type { KtoOptions } from "../../src/train/options/kto.ts";
import { loraConfig } from "../../src/train/options/model.ts";
import type { OrpoOptions } from "../../src/train/options/orpo.ts";
import { orpo } from "../../src/train/orpo.ts";
import { golden } from "../assets.ts";
import { random } from "../kernels/helpers.ts";

/** A trainer on preferences with options that differ from the small run's. */
export type PreferenceMethod =
  | { method: "dpo"; options?: Partial<DpoOptions> }
  | { method: "kto"; options?: Partial<KtoOptions> }
  | { method: "orpo"; options?: Partial<OrpoOptions> }
  | { method: "cpo"; options?: Partial<CpoOptions> };

/** Pairs with prompts and answers of different lengths, one of which has no prompt. */
export function preferences(seed: number, count: number): PreferenceExample[] {
  const { below } = random(seed), tokens = (length: number) => Array.from({ length }, () => 3 + below(328));
  return Array.from({ length: count }, (_, i) => {
    const prompt = tokens(i === 1 ? 0 : 1 + below(7));
    const answer = () => ({ ids: [...prompt, ...tokens(2 + below(8))], promptLength: prompt.length });
    return { chosen: answer(), rejected: answer() };
  });
}

/** A trainer on preferences, with `tiny-llama` as policy and as reference. */
export function preferenceTrainer(
  gpu: Gpu,
  stage: StageRun,
  run: PreferenceMethod,
  common: { seed: number; saveSteps: number },
  model: Model,
): AsyncGenerator<StepEvent> {
  const workspace = { gpu }, pairs = preferences(7, 9), evalExamples = preferences(8, 3);
  const usual = { learningRate: 1e-3, maxSteps: 4, perDeviceTrainBatchSize: 2, ...common };
  const options: Partial<DpoOptions | KtoOptions | OrpoOptions | CpoOptions> = { ...usual, ...run.options };
  const adapted = options.usePeft
    ? makeAdapted(gpu, golden("models/tiny-llama"), loraConfig(dpoOptions({ usePeft: true })), { seed: 4 })
    : model;
  // Where it is computed beforehand, the policy itself is asked.
  const known = "precomputeRefLogProbs" in options && options.precomputeRefLogProbs;
  const reference = known ? undefined : frozenCopy(gpu, model);
  switch (run.method) {
    case "dpo": {
      const data = { workspace, model: adapted, reference, examples: pairs, evalExamples };
      return dpo(stage, data, dpoOptions(options as Partial<DpoOptions>));
    }
    case "kto": {
      const single = (all: PreferenceExample[]) =>
        all.map(({ chosen, rejected }, i) =>
          i % 3 ? { ...chosen, label: true } : { ...rejected, label: false }
        );
      const data = {
        workspace,
        model: adapted,
        reference,
        examples: single(pairs),
        evalExamples: single(evalExamples),
      };
      return kto(stage, data, ktoOptions(options as Partial<KtoOptions>));
    }
    case "orpo":
      return orpo(
        stage,
        { workspace, model: adapted, examples: pairs, evalExamples },
        orpoOptions(options as Partial<OrpoOptions>),
      );
    case "cpo":
      return cpo(
        stage,
        { workspace, model: adapted, examples: pairs, evalExamples },
        cpoOptions(options as Partial<CpoOptions>),
      );
  }
}
