import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore, type RunStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";

function storeTest(name: string, use: (store: RunStore, path: string) => void): void {
  Deno.test(name, () =>
    withDirectory((directory) => {
      const path = join(directory, "run.db");
      const store = openStore(path);
      try {
        use(store, path);
      } finally {
        store.close();
      }
    }));
}

storeTest("metrics come back by stage and name with every bit", (store) => {
  const loss = Math.PI * 1e-300;
  store.appendMetrics("sft", 1, { loss, "eval/x": 0.1 });
  store.appendMetrics("sft", 2, { loss: 2 });
  store.appendMetrics("ppo", 1, { loss: 3 });
  assert.deepEqual(store.metrics("sft", "loss").map(({ step, value }) => [step, value]), [[1, loss], [2, 2]]);
  assert.equal(store.metrics().length, 4);
  assert.equal(store.metrics(undefined, "loss").length, 3);
});

storeTest("metrics that are not finite survive", (store) => {
  store.appendMetrics("sft", 1, { a: NaN, b: Infinity, c: -Infinity });
  assert.deepEqual(store.metrics().map(({ value }) => value), [NaN, Infinity, -Infinity]);
});

storeTest("a metric that is logged twice at one step has its last value", (store) => {
  store.appendMetrics("sft", 1, { loss: 1 });
  store.appendMetrics("sft", 1, { loss: 2, eval_loss: 3 });
  assert.deepEqual(store.metrics().map(({ name, value }) => [name, value]), [["eval_loss", 3], ["loss", 2]]);
});

storeTest("samples, events and knobs come back in the order they were written", (store) => {
  const rewards = { score: 0.25, kl: NaN };
  store.appendSamples("ppo", 3, [{ prompt: "p", completion: "c\0d", tokens: 2, rewards }]);
  store.appendSamples("ppo", 3, [{ prompt: "q", completion: "é", tokens: 1, rewards, split: "eval" }]);
  assert.deepEqual(store.samples("ppo").map(({ prompt, completion, split }) => [prompt, completion, split]), [
    ["p", "c\u2400d", "train"],
    ["q", "é", "eval"],
  ]);
  assert.deepEqual(store.samples()[0].rewards, rewards);
  store.appendEvent("ppo", 3, "non_finite", { culprit: "softmax" });
  store.appendEvent("ppo", 2, "note");
  assert.deepEqual(store.events().map(({ step, kind, detail }) => [step, kind, detail]), [
    [3, "non_finite", { culprit: "softmax" }],
    [2, "note", {}],
  ]);
  store.turnKnobs("ppo", 4, { kl_coef: 0.3 }, { who: "http" });
  assert.deepEqual(store.knobs("ppo").map(({ name, value, who }) => [name, value, who]), [[
    "kl_coef",
    0.3,
    "http",
  ]]);
});

storeTest("resuming drops later metrics and samples of its stage and keeps events and knobs", (store) => {
  for (const stage of ["sft", "ppo"]) {
    for (const step of [1, 2, 3, 4]) {
      store.appendMetrics(stage, step, { loss: step });
      store.appendSamples(stage, step, [{ prompt: "", completion: "", tokens: 0, rewards: {} }]);
      store.appendEvent(stage, step, "seen");
    }
  }
  store.truncateAfter("ppo", 2);
  assert.deepEqual(store.metrics("ppo").map(({ step }) => step), [1, 2]);
  assert.deepEqual(store.samples("ppo").map(({ step }) => step), [1, 2]);
  assert.equal(store.metrics("sft").length, 4);
  assert.deepEqual(store.events("ppo").map(({ kind }) => kind), ["seen", "seen", "seen", "seen", "resumed"]);
  assert.deepEqual(store.events("ppo")[4].detail, { droppedMetrics: 2, droppedSamples: 2 });
});

storeTest(
  "another program reads the database while it is written, by the documented columns",
  (store, path) => {
    store.appendMetrics("sft", 1, { loss: 1.5 });
    const reader = new DatabaseSync(path, { readOnly: true });
    store.appendMetrics("sft", 2, { loss: 1.25 });
    const rows = reader.prepare("SELECT step, name, value, stage FROM metrics ORDER BY step").all();
    reader.close();
    assert.deepEqual(rows.map((row) => ({ ...row })), [
      { step: 1, name: "loss", value: 1.5, stage: "sft" },
      { step: 2, name: "loss", value: 1.25, stage: "sft" },
    ]);
  },
);

Deno.test("a database that is not one is an error that names it", () =>
  withDirectory((directory) => {
    const path = join(directory, "run.db");
    Deno.writeTextFileSync(path, "not a database, but long enough to be read as one: ".repeat(40));
    assert.throws(() => openStore(path), /Cannot use .*run\.db: .*not a database/);
  }));
