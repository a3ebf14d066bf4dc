/**
 * Groups of completions that are kept to be learnt from again, in place of groups from which nothing can be learnt.
 *
 * What is kept was sampled by an older policy: its log-probabilities when it was drawn are the old ones of its ratios, and
 * the off-policy mask drops what has become too unlikely.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import { flatGroups, momentsWithout } from "../rl/group_advantages.ts";
import type { GroupRollout, Sample } from "./group_rollout.ts";

/** A group that is kept. Plain data, part of a checkpoint. */
export interface KeptGroup {
  samples: Sample[];
  /** Deviation of its rewards: the wider, the longer it is kept and the likelier it is drawn. */
  spread: number;
}

/**
 * Replaces flat groups of a batch, whose completions have advantages, by groups of the buffer, drawn in proportion to their
 * spread. The buffer afterwards has the `replayBufferSize` widest groups of its own and of the batch.
 */
export function replaceFlatGroups(
  { samples, sums, rounds }: Pick<GroupRollout, "samples" | "sums" | "rounds">,
  kept: KeptGroup[],
  { numGenerations, replayBufferSize, seed }: {
    numGenerations: number;
    replayBufferSize: number;
    seed: number;
  },
): { samples: Sample[]; kept: KeptGroup[]; replaced: number } {
  if (replayBufferSize === 0) return { samples, kept: [], replaced: 0 };
  const flat = flatGroups(sums, numGenerations), random = randomStream(seed, "replay buffer", rounds);
  const fresh: KeptGroup[] = [], out: Sample[] = [];
  let replaced = 0;
  flat.forEach((isFlat, g) => {
    const [from, to] = [g * numGenerations, (g + 1) * numGenerations];
    const own = samples.slice(from, to);
    if (!isFlat) {
      const older = own.map((sample) => ({ ...sample, oldLogprobs: sample.samplingLogprobs }));
      fresh.push({ samples: older, spread: momentsWithout(sums.subarray(from, to)).std });
    }
    if (!isFlat || kept.length === 0) {
      out.push(...own);
      return;
    }
    replaced++;
    out.push(...random.weighted(kept, kept.map(({ spread }) => spread)).samples);
  });
  const widest = [...fresh, ...kept].sort((a, b) => b.spread - a.spread).slice(0, replayBufferSize);
  return { samples: out, kept: widest, replaced: replaced / flat.length };
}
