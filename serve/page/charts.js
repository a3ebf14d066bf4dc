/** Live charts with uPlot, one per question that a person asks of a run. */
import { element } from "./dom.js";

/* global uPlot */

/** Colours of the series in order, readable on light and on dark. */
const COLOURS = ["#3b82f6", "#f97316", "#22c55e", "#a855f7", "#ef4444"];

/**
 * What is drawn of each stage: title, unit, and metrics with their labels. Charts without data are not shown. A metric may be
 * plotted against another one's square root instead of the step.
 */
const CHARTS = {
  sft: [
    { title: "Loss", unit: "nats per token", metrics: { loss: "training", eval_loss: "held out" } },
    {
      title: "Token accuracy",
      unit: "share",
      metrics: { mean_token_accuracy: "training", eval_mean_token_accuracy: "held out" },
    },
    { title: "Gradient norm", unit: "", metrics: { grad_norm: "norm" } },
    { title: "Throughput", unit: "tokens per second", metrics: { num_tokens: "tokens/s" }, rate: true },
  ],
  reward: [
    { title: "Loss", unit: "nats per pair", metrics: { loss: "training", eval_loss: "held out" } },
    {
      title: "Accuracy",
      unit: "share of pairs",
      metrics: { accuracy: "training", eval_accuracy: "held out" },
    },
    { title: "Margin", unit: "chosen − rejected", metrics: { margin: "training", eval_margin: "held out" } },
    { title: "Throughput", unit: "tokens per second", metrics: { num_tokens: "tokens/s" }, rate: true },
  ],
  ppo: [
    {
      title: "Reward",
      unit: "standardised",
      metrics: { "objective/scores": "score", "objective/rlhf_reward": "score − β·KL" },
    },
    { title: "Gold beside proxy", unit: "reward", metrics: { "gold/reward": "gold", "eval/proxy": "proxy" } },
    {
      title: "Gold beside proxy against distance",
      unit: "reward",
      metrics: { "gold/reward": "gold", "eval/proxy": "proxy" },
      against: "eval/kl",
      axis: "√KL, nats per reply",
    },
    {
      title: "KL from the reference",
      unit: "nats per reply",
      metrics: { "objective/kl_exact": "exact", "objective/kl_k1": "k1", "objective/kl_k3": "k3" },
    },
    { title: "β", unit: "kl_coef", metrics: { "objective/kl_coef": "β" } },
    {
      title: "Length",
      unit: "tokens per reply",
      metrics: { "tokens/responses_len_mean": "rollouts", "eval/length": "held out" },
    },
    { title: "Losses", unit: "", metrics: { "loss/policy_avg": "policy", "loss/value_avg": "value" } },
    {
      title: "Policy update",
      unit: "",
      metrics: { "policy/approxkl_avg": "approx. KL", "policy/clipfrac_avg": "clipped share" },
    },
    { title: "Entropy", unit: "nats per token", metrics: { "policy/entropy_avg": "policy" } },
    { title: "Throughput", unit: "episodes per second", metrics: { episode: "episodes/s" }, rate: true },
  ],
};

/**
 * Charts of the stages of a run in `container`; `points` is a store of metrics (see metrics.js) that is drawn again by `draw`.
 */
export function openCharts(container) {
  /** @type {Map<string, { box: HTMLElement, plot: uPlot, key: string }>} */
  const open = new Map();
  const resize = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const found = [...open.values()].find(({ box }) => box === target);
      if (found && contentRect.width > 0) found.plot.setSize({ width: contentRect.width, height: HEIGHT });
    }
  });

  function drawChart(stage, chart, points) {
    const id = `${stage} ${chart.title}`;
    const { columns, labels } = dataOf(chart, points);
    if (labels.length === 0) return undefined;
    const key = labels.join();
    let found = open.get(id);
    if (found && found.key !== key) {
      close(id);
      found = undefined;
    }
    if (!found) {
      const box = element("figure", { class: "chart" });
      const text = `${chart.title}${chart.unit ? `, ${chart.unit}` : ""}`;
      box.append(element("figcaption", {}, text));
      container.append(box);
      const plot = new uPlot(optionsOf(chart, labels, box.clientWidth || 360), columns, box);
      open.set(id, found = { box, plot, key });
      resize.observe(box);
    } else found.plot.setData(columns);
    const last = labels.map((label, i) => `${label} ${format(columns[i + 1].findLast((v) => v != null))}`);
    found.box.setAttribute("role", "img");
    found.box.setAttribute("aria-label", `${chart.title}: ${last.join(", ")}`);
    return found;
  }

  function close(id) {
    const { box, plot } = open.get(id);
    plot.destroy();
    box.remove();
    open.delete(id);
  }

  return {
    /** Draws the charts of `stage`. */
    draw(stage, points) {
      const drawn = (CHARTS[stage] ?? CHARTS.sft)
        .map((chart) => drawChart(stage, chart, points)).filter((found) => found !== undefined);
      for (const [id, found] of open) if (!drawn.includes(found)) close(id);
      // One whose metric came late stands where it belongs.
      drawn.forEach(({ box }, i) => {
        if (container.children[i] !== box) container.insertBefore(box, container.children[i] ?? null);
      });
    },
    clear() {
      for (const id of [...open.keys()]) close(id);
    },
  };
}

const HEIGHT = 200;

/** Columns for uPlot: x, then one per metric that has points. */
function dataOf({ metrics, against, rate }, points) {
  const names = Object.keys(metrics).filter((name) => points.of(name).size > 0);
  if (against) {
    const distances = points.of(against);
    const rows = [...distances].filter(([step]) => names.some((name) => points.of(name).has(step)))
      .map((
        [step, kl],
      ) => [Math.sqrt(Math.max(0, kl)), ...names.map((name) => points.of(name).get(step) ?? null)])
      .sort((a, b) => a[0] - b[0]);
    if (rows.length === 0) return { columns: [], labels: [] };
    return {
      columns: rows[0].map((_, i) => rows.map((row) => row[i])),
      labels: names.map((name) => metrics[name]),
    };
  }
  const steps = [...new Set(names.flatMap((name) => [...points.of(name).keys()]))].sort((a, b) => a - b);
  const series = names.map((name) => {
    const values = points.of(name);
    return rate ? rates(steps, values, points.times) : steps.map((step) => finite(values.get(step)));
  });
  return { columns: [steps, ...series], labels: names.map((name) => metrics[name]) };
}

const finite = (value) => Number.isFinite(value) ? value : null;

/** How fast a counter grows, from the times of the steps. */
function rates(steps, values, times) {
  return steps.map((step, i) => {
    if (i === 0) return null;
    const seconds = times.get(step) - times.get(steps[i - 1]);
    return seconds > 0 ? (values.get(step) - values.get(steps[i - 1])) / seconds : null;
  });
}

function optionsOf({ against, axis }, labels, width) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const line = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false } },
    cursor: { y: false },
    axes: [
      { ...line, label: axis ?? "step", labelSize: 18, size: 34 },
      { ...line, size: 52, values: (_, ticks) => ticks.map(format) },
    ],
    series: [
      { label: axis ?? "step", value: (_, v) => format(v) },
      ...labels.map((label, i) => ({
        label,
        stroke: COLOURS[i % COLOURS.length],
        width: 1.5,
        spanGaps: true,
        points: { show: Boolean(against), size: 5 },
        value: (_, v) => format(v),
      })),
    ],
  };
}

/** A number for people: four digits. */
export function format(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return `${(value / 1000).toPrecision(4)}k`;
  if (size !== 0 && size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}
