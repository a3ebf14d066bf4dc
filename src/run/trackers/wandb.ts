/**
 * A run of Weights & Biases as its package leaves one that was offline: `wandb/offline-run-…/run-ID.wandb`, which
 * `wandb sync` uploads. Names are those of transformers' `WandbCallback`.
 *
 * The id stays when the file is made anew, so that what is synced later continues the same run.
 *
 * @module
 */
import { basename, join } from "node:path";
import { fileExists } from "../../model/json_file.ts";
import { VERSION } from "../version.ts";
import { LOG_HEADER, logRecord } from "./leveldb_log.ts";
import { integer, message, text } from "./protobuf.ts";
import { concat, namesIn, reportedName, type TrackedStage, type TrackerFile } from "./tracker.ts";

/** Numbers of the fields in `wandb_internal.proto`. */
const RECORD = { number: 1, history: 2, summary: 3, metric: 12, run: 17, exit: 18, header: 21 };
const HEADER = { version: 1 }, VERSION_INFO = { producer: 1 };
const RUN = { id: 1, project: 3, config: 4, group: 6, jobType: 7, name: 8, host: 13, startTime: 17 };
const CONFIG = { update: 1 }, SUMMARY = { update: 1 }, ITEM = { key: 1, nestedKey: 2, json: 16 };
const HISTORY = { item: 1, step: 2 }, HISTORY_STEP = { number: 1 };
const METRIC = { name: 1, globName: 2, stepMetric: 4, options: 6 },
  METRIC_OPTIONS = { stepSync: 1, defined: 3 };
const TIMESTAMP = { seconds: 1 };

/** The axis of transformers' plots. */
const STEP = "train/global_step";

/** Folders of keel's; others in the folder are somebody else's. */
const OWN = /^offline-run-(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)-(keel[0-9a-f]{8})$/;

/** The file of a stage. */
export function wandbFile({ dir, stage, run, only, settings }: TrackedStage): TrackerFile {
  const [folder = join(dir, "wandb", newName())] = wandbPaths(dir);
  const [year, month, day, hours, minutes, seconds, id] = OWN.exec(basename(folder))!.slice(1);
  const started = Date.UTC(+year, +month - 1, +day, +hours, +minutes, +seconds) / 1000;
  const path = join(folder, `run-${id}.wandb`);
  let bytes = 0, records = 0;

  const add = (part: Uint8Array) => {
    bytes += part.length;
    return part;
  };
  const record = (field: number, ...fields: Uint8Array[]) =>
    add(logRecord(concat([integer(RECORD.number, ++records), message(field, ...fields)]), bytes));

  return {
    path,
    begin() {
      Deno.mkdirSync(join(folder, "files"), { recursive: true });
      return concat([
        add(LOG_HEADER),
        record(RECORD.header, message(HEADER.version, text(VERSION_INFO.producer, `keel ${VERSION}`))),
        record(
          RECORD.run,
          text(RUN.id, id),
          text(RUN.project, "keel"),
          message(RUN.config, ...items(CONFIG.update, settings)),
          ...only ? [] : [text(RUN.group, run)],
          text(RUN.jobType, stage),
          text(RUN.name, only ? run : `${run}/${stage}`),
          text(RUN.host, Deno.hostname()),
          message(RUN.startTime, integer(TIMESTAMP.seconds, started)),
        ),
        record(
          RECORD.metric,
          text(METRIC.name, STEP),
          message(METRIC.options, integer(METRIC_OPTIONS.defined, 1)),
        ),
        record(
          RECORD.metric,
          text(METRIC.globName, "*"),
          text(METRIC.stepMetric, STEP),
          message(METRIC.options, integer(METRIC_OPTIONS.stepSync, 1), integer(METRIC_OPTIONS.defined, 1)),
        ),
      ]);
    },
    step({ step, time, metrics }) {
      const values = {
        ...Object.fromEntries(Object.entries(metrics).map(([name, value]) => [reportedName(name), value])),
        [STEP]: step,
        _step: step,
        _timestamp: time,
        _runtime: time - started,
      };
      return concat([
        record(RECORD.summary, ...items(SUMMARY.update, values)),
        record(
          RECORD.history,
          ...items(HISTORY.item, values),
          message(HISTORY.step, integer(HISTORY_STEP.number, step)),
        ),
      ]);
    },
    end: () => record(RECORD.exit),
    placed() {
      // The mark of what was uploaded: there will be more to upload.
      const mark = `${path}.synced`;
      if (fileExists(mark)) Deno.removeSync(mark);
    },
  };
}

/** What there is of it in the folder of a stage. */
export function wandbPaths(dir: string): string[] {
  return namesIn(join(dir, "wandb"), OWN).map((name) => join(dir, "wandb", name));
}

/** `offline-run-YYYYmmdd_HHMMSS-ID`, in UTC. */
function newName(): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "_");
  return `offline-run-${time}-keel${crypto.randomUUID().slice(0, 8)}`;
}

/** Values by name, each as JSON; NaN and ±Infinity bare, as W&B reads them. */
function items(field: number, values: Record<string, unknown>): Uint8Array[] {
  return Object.entries(values).map(([name, value]) => {
    const json = typeof value === "number" ? String(value) : JSON.stringify(value ?? null);
    return message(field, text(ITEM.key, name), text(ITEM.json, json));
  });
}
