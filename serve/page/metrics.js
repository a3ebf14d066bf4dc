/** The metrics of a run by stage, as they come: first from the server's memory, then from its stream. */

const number = (value) => typeof value === "number" ? value : Number(value);

/** A store of points that can be asked for those of a stage. */
export function openMetrics() {
  /** @type {Map<string, { series: Map<string, Map<number, number>>, times: Map<number, number> }>} */
  const stages = new Map();
  const stageOf = (stage) => {
    let found = stages.get(stage);
    if (!found) stages.set(stage, found = { series: new Map(), times: new Map() });
    return found;
  };
  const put = (stage, step, name, value) => {
    const { series } = stageOf(stage);
    if (!series.has(name)) series.set(name, new Map());
    series.get(name).set(step, number(value));
  };
  return {
    put,
    /** The metrics of one step, and when it was made in Unix seconds. */
    step(stage, step, metrics, time) {
      stageOf(stage).times.set(step, time);
      for (const [name, value] of Object.entries(metrics)) put(stage, step, name, value);
    },
    /** Forgets what a roll-back dropped. */
    dropAfter(stage, step) {
      const { series, times } = stageOf(stage);
      for (const map of [...series.values(), times]) {
        for (const key of map.keys()) if (key > step) map.delete(key);
      }
    },
    stages: () => [...stages.keys()],
    /** The points of a stage: `of(name)` maps steps to values, `times` steps to seconds. */
    points(stage) {
      const { series, times } = stageOf(stage);
      return { of: (name) => series.get(name) ?? new Map(), times };
    },
  };
}
