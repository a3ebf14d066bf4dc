/**
 * What a person sees while a stage runs: one live line on a terminal, plain lines elsewhere, small plots at the end.
 *
 * @module
 */
import type { StepEvent } from "../train/events.ts";
import type { Io } from "./io.ts";
import { shortNumber, sparkline } from "./plot.ts";

/** Metrics that are shown, in this order, with their names for people. */
const SHOWN: [metric: string, label: string][] = [
  ["loss", "loss"],
  ["eval_loss", "eval loss"],
  ["rewards/accuracies", "accuracy"],
  ["eval_rewards/accuracies", "eval accuracy"],
  ["rewards/margins", "margin"],
  ["mean_token_accuracy", "token accuracy"],
  ["accuracy", "accuracy"],
  ["eval_accuracy", "eval accuracy"],
  ["margin", "margin"],
  ["objective/scores", "reward"],
  ["objective/kl", "KL"],
  ["reward", "reward"],
  ["kl", "KL"],
  ["label/pairs", "pairs"],
  ["label/ties", "ties"],
  ["bon/proxy", "proxy"],
  ["bon/best_proxy", "best"],
  ["gold/reward", "gold"],
  ["gold/agrees_with_wrong", "agrees with wrong claims"],
];

/** Metrics on the live line at most; it has to fit one line. */
const LIVE_METRICS = 3;

/** Milliseconds between two drawings of the live line. */
const REDRAW_AFTER = 100;

/** Shows the steps of one stage after the other. */
export interface Progress {
  /** A step is done. */
  step(event: StepEvent): void;
  /** Says something, above the live line. */
  note(text: string): void;
  /** Ends the live line, if there is one, with its last state. */
  done(): void;
  /** Lines with first value, course and last value of what was shown of a stage. */
  summary(stage: string): string[];
}

/** Settings of {@linkcode openProgress}. */
export interface ProgressSettings {
  /** Steps between two plain lines where there is no terminal. */
  loggingSteps: number;
  /** Milliseconds. */
  now?: () => number;
}

interface Stage {
  name: string;
  /** Time and step of the first event: what came before is compilation and reading. */
  begin: number;
  firstStep: number;
  /** Tokens since the first event, and the counters that they are counted with. */
  tokens: number;
  last: Record<string, number>;
  history: Map<string, number[]>;
}

/** Starts to show progress on standard error. */
export function openProgress(
  io: Io,
  { loggingSteps, now = () => performance.now() }: ProgressSettings,
): Progress {
  const stages = new Map<string, Stage>();
  let line = "", drawnAt = -Infinity;

  function stageOf(event: StepEvent): Stage {
    let stage = stages.get(event.stage);
    if (!stage) {
      stage = {
        name: event.stage,
        begin: now(),
        firstStep: event.step,
        tokens: 0,
        last: event.metrics,
        history: new Map(),
      };
      stages.set(event.stage, stage);
    }
    return stage;
  }

  function draw(text: string): void {
    io.draw(`\r${text}\x1b[K`);
    drawnAt = now();
  }

  return {
    step(event) {
      const before = stages.size;
      const stage = stageOf(event);
      if (stages.size > before) this.done();
      stage.tokens += newTokens(stage.last, event.metrics);
      stage.last = event.metrics;
      for (const [metric, value] of Object.entries(event.metrics)) {
        const values = stage.history.get(metric);
        if (values) values.push(value);
        else stage.history.set(metric, [value]);
      }
      const last = event.step === event.total;
      if (io.terminal) {
        line = liveLine(event, stage, now()).slice(0, io.columns() - 1);
        if (last || now() - drawnAt >= REDRAW_AFTER) draw(line);
      } else if (last || event.step % loggingSteps === 0) {
        io.note(plainLine(event, stage, now()));
      }
    },
    note(text) {
      if (line) io.draw("\r\x1b[K");
      io.note(text);
      if (line) draw(line);
    },
    done() {
      if (!line) return;
      draw(line);
      io.draw("\n");
      line = "";
    },
    summary(name) {
      const history = stages.get(name)?.history;
      const shown = shownOf((metric) => history?.has(metric) ?? false);
      const width = Math.max(0, ...shown.map(([, label]) => label.length));
      return shown.map(([metric, label]) => {
        const values = history!.get(metric)!;
        const first = shortNumber(values[0]).padStart(8), last = shortNumber(values[values.length - 1]);
        return `  ${label.padEnd(width)} ${first} ${sparkline(values)} ${last}`;
      });
    },
  };
}

/** Tokens of a step: from the running count, or from completions and their mean length. */
function newTokens(before: Record<string, number>, after: Record<string, number>): number {
  if (after.num_tokens !== undefined) return after.num_tokens - (before.num_tokens ?? 0);
  const length = after["tokens/responses_len_mean"];
  return length === undefined ? 0 : (after.episode - (before.episode ?? 0)) * length;
}

/** What is shown of the metrics that there are, each label once. */
function shownOf(has: (metric: string) => boolean): typeof SHOWN {
  const labels = new Set<string>();
  return SHOWN.filter(([metric, label]) => {
    if (!has(metric) || labels.has(label)) return false;
    labels.add(label);
    return true;
  });
}

function shown(metrics: Record<string, number>): string[] {
  return shownOf((metric) => metrics[metric] !== undefined)
    .map(([metric, label]) => `${label} ${shortNumber(metrics[metric])}`);
}

/** Tokens per second and time left, once there are two steps to tell from. */
function pace(event: StepEvent, stage: Stage, now: number): string[] {
  const seconds = (now - stage.begin) / 1000, steps = event.step - stage.firstStep;
  if (steps === 0 || seconds <= 0) return [];
  const rate = stage.tokens / seconds;
  const left = (event.total - event.step) * seconds / steps;
  return [
    ...(rate > 0 ? [`${rate >= 1000 ? `${shortNumber(rate / 1000)}k` : shortNumber(rate)} tokens/s`] : []),
    event.step === event.total ? `${duration(seconds)} in all` : `${duration(left)} left`,
  ];
}

/** `0:07`, `12:34`, `1:02:03`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts.map((part) => String(part).padStart(2, "0"));
  return parts[0] > 0 ? `${parts[0]}:${minutes}:${rest}` : `${Number(minutes) + Number(hours)}:${rest}`;
}

function liveLine(event: StepEvent, stage: Stage, now: number): string {
  const width = 20, filled = Math.round(width * event.step / event.total);
  const bar = "█".repeat(filled) + "░".repeat(width - filled);
  const facts = [...shown(event.metrics).slice(0, LIVE_METRICS), ...pace(event, stage, now)];
  return `${event.stage} ${bar} ${event.step}/${event.total}  ${facts.join("  ")}`;
}

function plainLine(event: StepEvent, stage: Stage, now: number): string {
  const rate = event.metrics.learning_rate ?? event.metrics.lr;
  const facts = [
    ...shown(event.metrics),
    ...(rate === undefined ? [] : [`learning rate ${shortNumber(rate)}`]),
    ...pace(event, stage, now),
  ];
  return [`${event.stage} ${event.step}/${event.total}`, ...facts.length ? [facts.join(", ")] : []].join(
    ": ",
  );
}
