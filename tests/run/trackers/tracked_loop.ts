/** A run of two stages without a GPU, for a test that kills it: step by step, with a checkpoint every fourth. */
import { openRun } from "../../../src/run/run.ts";
import { TRACKERS } from "../../../src/run/trackers/tracker.ts";

const STEPS = 30;

const run = openRun(Deno.args[0], {
  config: { command: "train", seed: 0, adapter: "", driver: "", options: {} },
  stages: ["sft", "ppo"],
  resume: true,
  report: { to: [...TRACKERS] },
});
for (const name of ["sft", "ppo"]) {
  const stage = run.stage(name);
  if (stage.finished() !== undefined) continue;
  for (let step = (stage.newest()?.step ?? 0) + 1; step <= STEPS; step++) {
    // Numbers that tell a step made again from one that was left.
    stage.log(step, { loss: 1 / step, made_at: performance.now() });
    stage.samples(step, [{ prompt: "p", completion: `c${step}`, tokens: 1, rewards: { score: step } }]);
    if (step % 4 === 0) {
      stage.checkpoint(step, { model: { w: { shape: [1], data: new Float32Array(1) } } }, {});
    }
    console.log(`${name} ${step}`);
    await new Promise((done) => setTimeout(done, 1));
  }
  stage.finish(STEPS);
}
run.close();
