/**
 * `keel label`: preference pairs from a policy's own completions.
 *
 * @module
 */
import { join } from "node:path";
import { writeTextAtomically } from "../../model/atomic_file.ts";
import { destroyModel } from "../../model/load.ts";
import type { StageRun } from "../../run/run.ts";
import type { StepEvent } from "../../train/events.ts";
import { allBut } from "../../train/load_data.ts";
import { openJudgeOf } from "../../train/judge.ts";
import { label, type LabelInputs, pairChoice, PAIRS, writePairs } from "../../train/label.ts";
import type { LabelledPrompt } from "../../train/label_pairs.ts";
import { judgeLine, labelReport, reportLines } from "../../train/label_report.ts";
import type { LabelOptions } from "../../train/options/label.ts";
import { hasRewards, openRewards } from "../../train/rewards.ts";
import { wantedPrompts } from "../../train/sampled_prompts.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";
import { checkSame, finishedBefore, openSampled } from "../sampled_session.ts";
import { type Session, trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<LabelOptions>(withRun(given), io);
  checkSame(recorded, ["judgeMode"]);
  return await trainingSession(
    {
      name: "label",
      stages: ["label"],
      steps: (session) => labelStage(session, session.run.stage("label"), options),
      finish: ({ run }) => [PAIRS, REPORT].map((name) => join(run.dir, name)),
    },
    recorded,
    io,
  );
};

/** Name of the report. */
const REPORT = "report.json";

/** Whether the judge compares pairs, and is then no source of rewards. */
export function comparesPairs({ judgeMode, judgeUrl }: LabelOptions): boolean {
  return judgeMode === "pairwise" && judgeUrl !== undefined;
}

/** The stage, from the options' policy and prompts to pairs and a report in its folder; the last `heldOut` prompts are left alone. */
export async function* labelStage(
  session: Session,
  stage: StageRun,
  options: LabelOptions,
  heldOut = 0,
): AsyncGenerator<StepEvent> {
  const { workspace, say } = session;
  const opened = await openSampled<LabelledPrompt>(session, options, options.rewardModelPath ?? []);
  const work: LabelInputs = { ...opened, sources: [], prompts: allBut(opened.prompts, heldOut) };
  try {
    const scored = comparesPairs(options) ? { ...options, judgeUrl: undefined } : options;
    if (hasRewards(scored)) work.sources = await openRewards(workspace, scored, opened.rewards);
    const { judgeCache: cache, seed } = opened.rewards;
    if (comparesPairs(options)) work.judge = openJudgeOf(options, { cache, seed });
    yield* label(stage, work, options);
    if (stage.interrupted()) return;
    const choice = pairChoice(options, work), count = wantedPrompts(work.prompts, options);
    const labelled = () => finishedBefore(work.finished, count);
    writePairs(stage.dir, labelled(), choice);
    const report = labelReport(labelled(), choice);
    writeTextAtomically(join(stage.dir, REPORT), JSON.stringify(report, null, 2) + "\n");
    for (const line of reportLines(report)) say(line);
    if (work.judge) say(judgeLine(work.judge.metrics()));
    stage.finish(count);
  } finally {
    work.sources.forEach(({ close }) => close?.());
    opened.close();
    destroyModel(workspace.gpu, work.policy);
  }
}
