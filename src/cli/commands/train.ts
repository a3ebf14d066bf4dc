/**
 * `keel train`: base model → SFT → reward model → PPO, on the parrot or on data of one's own.
 *
 * @module
 */
import { join } from "node:path";
import { fileTask } from "../../train/file_task.ts";
import { parrotTask } from "../../train/parrot_task.ts";
import { pipeline, STAGES } from "../../train/pipeline.ts";
import { stageOptions } from "../../train/options/stages.ts";
import type { TrainOptions } from "../../train/options/train.ts";
import { storyLines, writeTrainReport } from "../../train/report.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<TrainOptions>(given, io);
  const parrot = options.modelNameOrPath === undefined && options.datasetName === undefined;
  return trainingSession(
    {
      name: "train",
      stages: [...STAGES],
      async *steps({ workspace, run, say }) {
        const task = parrot
          ? await parrotTask(workspace, options, say)
          : await fileTask(workspace, options, run.dir, say);
        yield* pipeline(run, workspace, task, stageOptions(options));
      },
      finish({ run, say }) {
        for (const line of storyLines(run)) say(line);
        return [writeTrainReport(run, { ...recorded }), join(run.dir, "ppo", "model")];
      },
    },
    recorded,
    io,
  );
};
