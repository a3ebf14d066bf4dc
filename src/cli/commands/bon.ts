/**
 * `keel bon`: the best of n samples by a proxy, as data for SFT and as a frontier to compare training with.
 *
 * @module
 */
import { join } from "node:path";
import { writeTextAtomically } from "../../model/atomic_file.ts";
import { bon, type BonInputs, bonLines, bonReport, type ScoredPrompt, writeBest } from "../../train/bon.ts";
import type { BonOptions } from "../../train/options/bon.ts";
import type { RewardSourceOptions } from "../../train/options/rewards.ts";
import { openRewards } from "../../train/rewards.ts";
import { wantedPrompts } from "../../train/sampled_prompts.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";
import { checkSame, finishedBefore, openSampled } from "../sampled_session.ts";
import { trainingSession } from "../session.ts";

/** The sources of gold that options name. */
function goldOptions(options: BonOptions): RewardSourceOptions {
  return {
    ...options,
    rewardModelPath: options.goldModelPath,
    rewardFuncs: options.goldFuncs,
    rewardEnsemble: "none",
    rewardUrl: undefined,
    judgeUrl: undefined,
    rewardWeights: undefined,
  };
}

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<BonOptions>(withRun(given), io);
  checkSame(recorded, ["goldModelPath", "goldFuncs"]);
  let work: (BonInputs & { close(): void }) | undefined;
  try {
    return await trainingSession(
      {
        name: "bon",
        stages: ["bon"],
        async *steps(session) {
          const { rewardModelPath = [], goldModelPath = [], goldFuncs } = options;
          const opened = await openSampled<ScoredPrompt>(session, options, [
            ...rewardModelPath,
            ...goldModelPath,
          ]);
          work = { ...opened, proxy: [], gold: [] };
          work.proxy = await openRewards(session.workspace, options, opened.rewards);
          if (goldModelPath.length || goldFuncs) {
            work.gold = await openRewards(session.workspace, goldOptions(options), opened.rewards);
          }
          const stage = session.run.stage("bon");
          yield* bon(stage, work, options);
          if (!stage.interrupted()) stage.finish(wantedPrompts(work.prompts, options));
        },
        finish({ run }) {
          const scored = () => finishedBefore(work!.finished, wantedPrompts(work!.prompts, options));
          const path = writeBest(run.dir, scored()), report = bonReport(scored());
          writeTextAtomically(join(run.dir, "report.json"), JSON.stringify(report, null, 2) + "\n");
          for (const line of bonLines(report)) io.note(line);
          return [path, join(run.dir, "report.json")];
        },
      },
      recorded,
      io,
    );
  } finally {
    for (const { close } of [...work?.proxy ?? [], ...work?.gold ?? []]) close?.();
    work?.close();
  }
};
