/**
 * TensorBoard's event files: `tb/events.out.tfevents.…`, with the tags of transformers' `TensorBoardCallback`.
 *
 * A file that is made anew has a later name than the one before: TensorBoard reads the files of a folder in the order of their
 * names and never looks at one again. The event that starts a session tells a TensorBoard which is watching to forget what
 * it had so far. The file before is emptied and goes the next time, because TensorBoard's loader in Python stays for ever
 * with a file that vanishes while it reads.
 *
 * @module
 */
import { basename, join } from "node:path";
import type { Sample } from "../rows.ts";
import { bytes, double, float, integer, message, text } from "./protobuf.ts";
import { tfRecord } from "./tf_record.ts";
import { concat, namesIn, reportedName, type TrackedStage, type TrackerFile, utf8 } from "./tracker.ts";

/** Numbers of the fields in `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto` of TensorFlow. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 };
const SESSION_LOG = { status: 1 }, START = 1;
const SUMMARY = { value: 1 };
const VALUE = { tag: 1, simpleValue: 2, tensor: 8, metadata: 9 };
const METADATA = { pluginData: 1 }, PLUGIN_DATA = { name: 1, content: 2 };
const TENSOR = { type: 1, shape: 2, strings: 8 }, STRINGS = 7;
const SHAPE = { dimension: 2 }, DIMENSION = { size: 1 };

/** Files of keel's; others in the folder are somebody else's. */
const OWN = /^events\.out\.tfevents\.(\d{10})\..*\.keel$/;

/** Samples of a step that are shown; all are in `run.db`. */
const SHOWN_SAMPLES = 8;

/** The file of a stage. */
export function tensorboardFile({ dir, settings }: TrackedStage): TrackerFile {
  const before = tensorboardPaths(dir), now = Date.now() / 1000;
  // Two in one second, or a clock that was set back, must not make it the earlier one.
  const time = Math.max(Math.floor(now), ...before.map((path) => Number(OWN.exec(basename(path))![1]) + 1));
  return {
    path: join(dir, "tb", `events.out.tfevents.${time}.${Deno.hostname()}.${Deno.pid}.keel`),
    begin: () =>
      concat([
        event(now, 0, text(EVENT.fileVersion, "brain.Event:2")),
        event(now, 0, message(EVENT.sessionLog, integer(SESSION_LOG.status, START))),
        event(now, 0, textSummary("args", JSON.stringify(settings, null, 2))),
      ]),
    step({ step, time, metrics }) {
      const values = Object.entries(metrics).map(([name, value]) =>
        message(SUMMARY.value, text(VALUE.tag, reportedName(name)), float(VALUE.simpleValue, value))
      );
      return event(time, step, message(EVENT.summary, ...values));
    },
    samples(step, time, samples) {
      const splits = Map.groupBy(samples, ({ split = "train" }) => split);
      return concat(
        Array.from(
          splits,
          ([split, some]) => event(time, step, textSummary(`samples/${split}`, table(some))),
        ),
      );
    },
    end: () => utf8(""),
    placed() {
      for (const path of before) {
        if (Deno.statSync(path).size === 0) Deno.removeSync(path);
        else Deno.truncateSync(path);
      }
    },
  };
}

/** What there is of it in the folder of a stage. */
export function tensorboardPaths(dir: string): string[] {
  return namesIn(join(dir, "tb"), OWN).map((name) => join(dir, "tb", name));
}

function event(time: number, step: number, what: Uint8Array): Uint8Array {
  return tfRecord(concat([double(EVENT.wallTime, time), integer(EVENT.step, step), what]));
}

/** A text for the text plugin, which reads Markdown; named as PyTorch's `add_text` does, which transformers uses. */
function textSummary(name: string, content: string): Uint8Array {
  return message(
    EVENT.summary,
    message(
      SUMMARY.value,
      text(VALUE.tag, `${name}/text_summary`),
      message(
        VALUE.metadata,
        message(
          METADATA.pluginData,
          text(PLUGIN_DATA.name, "text"),
          // A `TextPluginData` of version 0 has no bytes.
          bytes(PLUGIN_DATA.content, new Uint8Array()),
        ),
      ),
      message(
        VALUE.tensor,
        integer(TENSOR.type, STRINGS),
        message(TENSOR.shape, message(SHAPE.dimension, integer(DIMENSION.size, 1))),
        text(TENSOR.strings, content),
      ),
    ),
  );
}

/** Samples as a table of Markdown. */
function table(samples: Sample[]): string {
  const cell = (content: string) => content.replaceAll("|", "\\|").replaceAll(/\r?\n/g, "<br>");
  const lines = samples.slice(0, SHOWN_SAMPLES).map(({ prompt, completion, rewards }) => {
    const parts = Object.entries(rewards).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
    return [prompt, completion, parts.join(", ")].map(cell).join(" | ");
  });
  return ["prompt | completion | rewards", "--- | --- | ---", ...lines].map((line) => `| ${line} |`).join(
    "\n",
  );
}
