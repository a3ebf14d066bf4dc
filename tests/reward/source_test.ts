import assert from "node:assert/strict";
import { join } from "node:path";
import { randomStream } from "../../src/random/stream.ts";
import { combineScores } from "../../src/reward/ensemble.ts";
import { loadFunctionFile } from "../../src/reward/function_file.ts";
import { rewardBatch, type RewardSource, scoreBatch, sourceMetrics } from "../../src/reward/source.ts";
import { withDirectory } from "../assets.ts";
import { batchOf } from "./batches.ts";

Deno.test("every source says one finite number or null of each completion, and is named where it does not", async () => {
  const source = (
    name: string,
    scores: (number | null)[],
    more: Partial<RewardSource> = {},
  ): RewardSource => ({
    name,
    weight: 1,
    score: () => Promise.resolve(scores),
    ...more,
  });
  const batch = batchOf({ completions: ["a", "b", "c"] });
  const good = source("good", [1, null, -0]), other = source("other", [4, 3, null]);
  assert.deepEqual(await scoreBatch([good, other], batch), [[1, null, -0], [4, 3, null]]);
  await assert.rejects(
    scoreBatch([good, source("short", [1])], batch),
    /The reward short returned 1 scores for 3 completions/,
  );
  for (const wrong of [NaN, Infinity, -Infinity]) {
    await assert.rejects(
      scoreBatch([good, source("wild", [null, wrong, 0])], batch),
      new RegExp(`The reward wild is ${wrong} for a completion of `),
    );
  }
  const counting = (name: string) => source("x", [], { metrics: () => ({ [name]: 2 }) });
  assert.deepEqual(sourceMetrics([good, counting("a/b"), counting("c")]), { "a/b": 2, c: 2 });
});

Deno.test("sources on the GPU take turns, others do not wait for them", async () => {
  const log: string[] = [];
  const source = (name: string, usesGpu: boolean): RewardSource => ({
    name,
    weight: 1,
    usesGpu,
    async score() {
      log.push(`${name} begins`);
      for (let i = 0; i < 5; i++) await Promise.resolve();
      log.push(`${name} ends`);
      return [1];
    },
  });
  const sources = [source("a", true), source("b", true), source("c", false), source("d", false)];
  await scoreBatch(sources, batchOf({ completions: ["x"] }));
  const at = (line: string) => log.indexOf(line);
  assert.equal(log.length, 8);
  assert.ok(at("a ends") < at("b begins"), `${log}`);
  assert.ok(at("c begins") < at("a ends") && at("d begins") < at("c ends"), `${log}`);
  const failing = { ...source("e", true), score: () => Promise.reject(new Error("no")) };
  await assert.rejects(scoreBatch([failing, ...sources], batchOf({ completions: ["x"] })), /^Error: no$/);
});

Deno.test("a batch has one entry per completion, conversations where prompts are", () => {
  const messages = [{ role: "user", content: "b?" }];
  const rows = [
    { ids: [1], text: "a", prompt: "a", columns: { answer: 1 } },
    { ids: [1], text: "a", prompt: "a", columns: { answer: 1 } },
    { ids: [2], text: "<b>", prompt: messages, columns: { hint: "x" } },
  ];
  const completions = [{ ids: [5, 0], ended: true }, { ids: [6], ended: false }, {
    ids: [7, 0],
    ended: true,
  }];
  assert.deepEqual(rewardBatch(rows, completions, (ids) => ids.join(), 4), {
    prompts: ["a", "a", messages],
    completions: ["5,0", "6", [{ role: "assistant", content: "7,0" }]],
    promptIds: [[1], [1], [2]],
    completionIds: [[5, 0], [6], [7, 0]],
    ended: [true, false, true],
    columns: { answer: [1, 1, null], hint: [null, null, "x"] },
    step: 4,
  });
});

Deno.test("an ensemble's score is the mean, the smallest, or the mean less what the models disagree", () => {
  const random = randomStream(1, "ensemble");
  for (const models of [2, 3, 5]) {
    const scores = Array.from(
      { length: models },
      () => Array.from({ length: 7 }, () => random.normal() * 3 - 1),
    );
    const lambda = random.uniform() * 2;
    const got = (["mean", "min", "uncertainty"] as const).map((rule) =>
      combineScores(scores, { rule, lambda })
    );
    for (let i = 0; i < 7; i++) {
      const own = scores.map((row) => row[i]).sort((a, b) => a - b);
      const mean = own.reduce((a, b) => a + b) / models;
      // E[x²] − E[x]².
      const variance = own.reduce((a, b) => a + b * b, 0) / models - mean * mean;
      [mean, own[0], mean - lambda * variance].forEach((want, k) =>
        assert.ok(Math.abs(got[k][i] - want) < 1e-12, `${models} ${k} ${i}: ${got[k][i]}, not ${want}`)
      );
    }
  }
});

/** Loads a file with that text. */
function withFunctions(text: string, use: (path: string) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    const path = join(directory, "my_rewards.ts");
    Deno.writeTextFileSync(path, text);
    await use(path);
  });
}

Deno.test("every function of a file is a reward and gets TRL's arguments", () =>
  withFunctions(
    `
    export const helper = 3;
    export function shorter({ completions }: { completions: string[] }) {
      return completions.map((text) => -text.length);
    }
    export async function everything(given: Record<string, any>) {
      await Promise.resolve();
      const { prompts, completions, completion_ids, trainer_state, answer, ...others } = given;
      if (Object.keys(others).length) throw new Error("more than expected");
      return prompts.map((prompt: string, i: number) =>
        answer[i] === null ? null : answer[i] + completion_ids[i].length * 10 + trainer_state.global_step * 100 + prompt.length * 1000);
    }
    export default function right({ completions }: any) { return completions.map((text: string) => text === "bb"); }
    `,
    async (path) => {
      const functions = await loadFunctionFile(path);
      assert.deepEqual(functions.map(({ name }) => name), ["right", "everything", "shorter"]);
      const batch = batchOf({
        prompts: ["p", "pp", "p"],
        completions: ["a", "bb", "c"],
        completionIds: [[1], [2, 3], [4]],
        columns: { answer: [1, 2, null] },
        step: 3,
      });
      const scores = await Promise.all(functions.map(({ score }) => score(batch)));
      assert.deepEqual(scores, [[0, 1, 0], [1311, 2322, null], [-1, -2, -1]]);
      await assert.rejects(
        functions[1].score({ ...batch, columns: { prompts: [1, 2, 3] } }),
        /The dataset has a column "prompts"/,
      );
    },
  ));

Deno.test("what a reward function does wrong is told with its name and its file", () =>
  withFunctions(
    `
    export const a = () => undefined;
    export const b = ({ completions }) => completions.slice(1);
    export const c = () => [NaN, 1];
    export const d = () => [1, "2"];
    export const e = () => { throw new RangeError("too far"); };
    export const f = () => Promise.reject("gone");
    export const g = () => [1, undefined];
    export const h = () => 5;
    `,
    async (path) => {
      const functions = await loadFunctionFile(path);
      const expected = [
        "a in PATH returned undefined. Expected a list of 2 numbers",
        "b in PATH returned 1 values for 2 completions. Expected 2",
        "c in PATH returned NaN for completion 0. Expected a finite number, or null",
        'd in PATH returned "2" for completion 1',
        "e in PATH failed: too far (line 6:36)",
        "f in PATH failed: gone",
        "g in PATH returned undefined for completion 1",
        "h in PATH returned 5. Expected a list",
      ];
      for (const [i, { score }] of functions.entries()) {
        const error = await score(batchOf({ completions: ["x", "y"] })).then(() => assert.fail(), (error) =>
          error);
        const want = `The reward function ${expected[i].replace("PATH", path)}`;
        assert.ok(error.message.startsWith(want), `${error.message}\nshould begin with\n${want}`);
      }
    },
  ));

Deno.test("a file that is none, or has no function, is refused by name", async () => {
  await assert.rejects(
    loadFunctionFile("/no/such/file.ts"),
    /Cannot read \/no\/such\/file.ts: the file does not exist/,
  );
  await withFunctions(
    "export const x = 1;",
    (path) => assert.rejects(loadFunctionFile(path), /exports no function. Expected reward functions/),
  );
  await withFunctions(
    "export function (",
    (path) => assert.rejects(loadFunctionFile(path), /Cannot load the reward functions in .*my_rewards.ts: /),
  );
  await withFunctions(
    'import "./not_there.ts";',
    (path) =>
      // deno-lint-ignore no-control-regex
      assert.rejects(loadFunctionFile(path), (error: Error) => !/\x1b/.test(error.message)),
  );
});
