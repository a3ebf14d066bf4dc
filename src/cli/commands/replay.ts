/**
 * `keel replay`: a run once more, with its journal, and whether the bits are the same.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { fileExists } from "../../model/json_file.ts";
import { compareRuns } from "../../run/compare.ts";
import { type ConfigFile, readRunConfig, removeRun } from "../../run/run.ts";
import { openStore } from "../../run/store.ts";
import type { ReplayOptions } from "../../train/options/replay.ts";
import { DESCRIPTIONS } from "../catalogue.ts";
import { type CommandName, loadCommand } from "../commands.ts";
import { fieldsOf } from "../fields.ts";
import type { Io } from "../io.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const options = given as unknown as ReplayOptions;
  const dir = options.run.replace(/\/+$/, "");
  const config = readRunConfig(dir);
  if (!config) {
    throw new Error(`There is no run in ${dir}: it has no config.json. Expected the output_dir of a run.`);
  }
  const outputDir = options.outputDir ?? `${dir}-replay`;
  if (resolve(outputDir) === resolve(dir)) {
    throw new Error(`A run cannot be replayed over itself. Choose another --output_dir than ${dir}.`);
  }
  const there = readRunConfig(outputDir);
  if ((there || fileExists(join(outputDir, "run.db"))) && !options.overwriteOutputDir) {
    throw new Error(
      `${outputDir} already holds a run. Choose another --output_dir, or replace it with --overwrite_output_dir.`,
    );
  }
  if (options.overwriteOutputDir) removeRun(outputDir, there?.stages ?? config.stages);
  copyJournal(dir, outputDir, io);
  const body = await loadCommand(config.command as CommandName);
  const code = await body({
    ...settingsOf(config),
    outputDir,
    resume: false,
    resumeFromCheckpoint: undefined,
    overwriteOutputDir: false,
  }, io);
  if (code) return code;
  return tell(dir, outputDir, config, io);
};

/** Settings as they are given to a command: the file has null for those without a value, too. */
function settingsOf({ command, options }: ConfigFile): Record<string, unknown> {
  const nullable = fieldsOf(DESCRIPTIONS[command as CommandName].schema)
    .filter((field) => field.nullable).map(({ name }) => name);
  return Object.fromEntries(
    Object.entries(options).map((
      [name, value],
    ) => [name, nullable.includes(name) ? value : value ?? undefined]),
  );
}

/** Puts the knobs of the first run into the database of the second, before that begins. */
function copyJournal(from: string, to: string, io: Io): void {
  Deno.mkdirSync(to, { recursive: true });
  const first = openStore(join(from, "run.db")), second = openStore(join(to, "run.db"));
  try {
    const knobs = first.knobs();
    for (const { stage, step, name, value } of knobs) {
      second.turnKnobs(stage, step, { [name]: value }, { who: "replay" });
    }
    const changed = first.events().filter(({ kind }) => kind === "settings_changed");
    if (changed.length) {
      io.note("Note: the run was resumed with other settings, which a replay has from the beginning.");
    }
    io.note(`Replaying ${from} in ${to}, with ${knobs.length} turned knobs.`);
  } finally {
    first.close();
    second.close();
  }
}

function tell(from: string, to: string, { stages }: ConfigFile, io: Io): number {
  const [first, second] = [from, to].map((dir) => ({ dir, stages, store: openStore(join(dir, "run.db")) }));
  try {
    const { compared, differences } = compareRuns(first, second);
    const what = `${compared.metrics} metrics, ${compared.samples} samples and ${compared.files} files`;
    if (io.json) io.print(JSON.stringify({ identical: differences.length === 0, compared, differences }));
    else if (differences.length === 0) io.print(`Identical: ${what}.`);
    else io.print(`Not the same. Of ${what}:\n  ${differences.join("\n  ")}`);
    return differences.length === 0 ? 0 : 1;
  } finally {
    first.store.close();
    second.store.close();
  }
}
