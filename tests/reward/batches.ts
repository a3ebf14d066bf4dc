/** Batches of completions for tests. */
import type { RewardBatch } from "../../src/reward/source.ts";

/** A batch with what a test says and something for the rest. */
export function batchOf(given: Partial<RewardBatch>): RewardBatch {
  const count = given.completions?.length ?? given.completionIds?.length ?? given.prompts?.length ?? 0;
  const each = <T>(make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));
  return {
    prompts: each((i) => `question ${i}`),
    completions: each((i) => `answer ${i}`),
    promptIds: each((i) => [1, i]),
    completionIds: each((i) => [2, i]),
    ended: each(() => true),
    columns: {},
    step: 1,
    ...given,
  };
}
