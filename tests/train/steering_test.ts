import assert from "node:assert/strict";
import { join } from "node:path";
import type { RunStore } from "../../src/run/store.ts";
import { knobProblem, KNOBS } from "../../src/train/steering.ts";
import { withDirectory } from "../assets.ts";
import { type Method, type SmallResult, smallRun, type SmallSettings } from "./small.ts";

const PPO: Method = { method: "ppo", options: { maxSteps: 6 } };

/** A run that is told these things after these steps. */
function told(
  directory: string,
  method: Method,
  orders: Record<number, (store: RunStore) => void>,
  more: SmallSettings = {},
): Promise<SmallResult> {
  const pending = { ...orders };
  return smallRun(directory, method, {
    ...more,
    // A step that is made again after a roll-back gives no order again.
    afterStep(step, store) {
      pending[step]?.(store);
      delete pending[step];
    },
  });
}

const set = (knobs: Record<string, unknown>) => (store: RunStore) =>
  void store.ask({ who: "test", kind: "set", detail: knobs });
const roll = (step: number) => (store: RunStore) =>
  void store.ask({ who: "test", kind: "roll_back", detail: { step } });
const ask = (kind: "pause" | "resume" | "checkpoint" | "stop") => (store: RunStore) =>
  void store.ask({ who: "test", kind });
const all = (...orders: ((store: RunStore) => void)[]) => (store: RunStore) =>
  orders.forEach((order) => order(store));

/** What of a run must not depend on how it came about. */
const bits = ({ hashes, state, samples }: SmallResult) => ({ hashes, state, samples });

Deno.test("knobs hold from the step after they were turned, and a journal of them gives the same bits", async () => {
  await withDirectory(async (directory) => {
    const first = { kl_coef: 0.5, learning_rate: 3e-3, temperature: 1.1 };
    const steered = await told(join(directory, "steered"), PPO, {
      2: set(first),
      4: all(ask("checkpoint"), set({ cliprange: 0.05 })),
      5: all(set({ gamma: 0.5 }), roll(4)),
    });
    assert.deepEqual(steered.requests.map(({ kind, step, refusal }) => [kind, step, refusal]), [
      ["set", 2, null],
      ["checkpoint", 4, null],
      ["set", 4, null],
      ["set", 5, null],
      ["roll_back", 4, null],
    ]);
    assert.deepEqual(steered.events.map(({ step }) => step), [1, 2, 3, 4, 5, 5, 6]);
    assert.deepEqual(steered.events.map(({ metrics }) => metrics["objective/kl_coef"] ?? metrics.kl_coef), [
      0.05,
      0.05,
      0.5,
      0.5,
      0.5,
      0.5,
      0.5,
    ]);
    const [rolledBack] = steered.happened.filter(({ kind }) => kind === "rolled_back");
    assert.deepEqual(rolledBack.detail.droppedKnobs, [
      { step: 5, name: "cliprange", value: 0.05 },
      { step: 6, name: "gamma", value: 0.5 },
    ]);

    // What was dropped has no effect; what was not is enough to get the same run.
    const replayed = await smallRun(join(directory, "replayed"), PPO, {
      afterStep: (step, store) => step === 0 && store.turnKnobs("ppo", 3, first, { who: "journal" }),
    });
    assert.deepEqual(bits(replayed), bits(steered));
    const plain = await smallRun(join(directory, "plain"), PPO);
    assert.notDeepEqual(plain.hashes, steered.hashes);
  });
});

for (const method of ["sft", "reward", "ppo"] as const) {
  Deno.test(`a steered ${method} run that was stopped goes on to the same bits`, async () => {
    await withDirectory(async (directory) => {
      const run: Method = { method, options: { maxSteps: 5 } };
      const turn = set({ learning_rate: 5e-3, max_grad_norm: 0.1 });
      const whole = await told(join(directory, "whole"), run, { 3: turn });
      const other = join(directory, "stopped");
      // Stopped before the knob is turned at step 3, and again after.
      await told(other, run, { 2: ask("stop") });
      const second = await told(other, run, { 3: all(turn, ask("checkpoint")), 4: ask("stop") }, {
        resume: true,
      });
      assert.deepEqual(second.events.map(({ step }) => step), [3, 4]);
      const third = await smallRun(other, run, { resume: true });
      assert.deepEqual(third.events.map(({ step }) => step), [5]);
      assert.deepEqual(bits(third), bits(whole));

      // Killed after the knob was turned but before the next checkpoint: it is turned again at the same step.
      const killed = join(directory, "killed");
      await assert.rejects(
        told(killed, { method, options: { maxSteps: 5, saveSteps: 2 } }, {
          3: turn,
          4: () => {
            throw new Error("killed");
          },
        }).then(({ error }) => Promise.reject(error)),
      );
      const again = await smallRun(killed, run, { resume: true });
      assert.deepEqual(again.hashes, whole.hashes);
    });
  });
}

Deno.test("a paused run waits, answers, and goes on with the same bits", async () => {
  await withDirectory(async (directory) => {
    const run: Method = { method: "sft" };
    const plain = await smallRun(join(directory, "plain"), run);
    let waited = 0;
    const paused = await told(join(directory, "paused"), run, {
      2(store) {
        ask("pause")(store);
        const began = performance.now();
        const timer = setInterval(() => {
          const answered = store.requests().filter((request) => request.answered !== null);
          if (answered.length === 1) ask("checkpoint")(store);
          if (answered.length < 2) return;
          clearInterval(timer);
          waited = performance.now() - began;
          ask("resume")(store);
        }, 30);
      },
    });
    assert.ok(waited > 30, "it did not wait");
    assert.deepEqual(paused.happened.map(({ kind, step }) => [kind, step]), [
      ["pause", 2],
      ["checkpoint", 2],
      ["resume", 2],
    ]);
    assert.deepEqual(bits(paused), bits(plain));
  });
});

Deno.test("what cannot be done is refused with a reason and changes nothing", async () => {
  await withDirectory(async (directory) => {
    const run: Method = { method: "sft" };
    const plain = await smallRun(join(directory, "plain"), run);
    const refused = await told(join(directory, "told"), run, {
      2: all(
        set({ learning_rate: -1 }),
        set({ kl_coef: 0.1 }),
        set({ learning_rate: "fast" }),
        roll(1),
        ask("checkpoint"),
        roll(77),
      ),
    });
    assert.deepEqual(refused.requests.map(({ refusal }) => refusal), [
      "learning_rate: Too small: expected number to be >=0",
      'Unrecognized key: "kl_coef"',
      "learning_rate: Invalid input: expected number, received string",
      "There is no checkpoint of step 1 or any other yet.",
      null,
      "There is no checkpoint of step 77; there are those of 2.",
    ]);
    assert.equal(refused.happened.filter(({ kind }) => kind === "refused").length, 5);
    assert.deepEqual(bits(refused), bits(plain));
  });
});

Deno.test("every knob has the limits of its option", () => {
  assert.equal(knobProblem("ppo", { kl_coef: 0, cliprange: 0.3, target_kl: 0.1 }), undefined);
  assert.match(knobProblem("ppo", { temperature: 0 })!, /temperature/);
  assert.match(knobProblem("sft", { eval_steps: 1.5 })!, /eval_steps/);
  for (const schema of Object.values(KNOBS)) {
    for (const [name, field] of Object.entries(schema.shape)) {
      assert.ok(field.meta()?.description, `${name} has no description`);
    }
  }
});
