/** Built-in rewards against TRL's recorded values and numbers by hand. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { BUILTIN_NAMES, builtinReward } from "../../src/reward/builtin.ts";
import type { Content } from "../../src/data/messages.ts";
import { golden } from "../assets.ts";
import { batchOf } from "./batches.ts";

const say = (text: string): Content => [{ role: "assistant", content: text }];

/** Scores of a built-in reward. */
function scores(name: string, batch: Parameters<typeof batchOf>[0], longest = 100) {
  return builtinReward(name, longest).score(batchOf(batch));
}

function near(got: (number | null)[], want: (number | null)[]) {
  assert.equal(got.length, want.length);
  got.forEach((one, i) => {
    const two = want[i];
    if (one === null || two === null) assert.equal(one, two);
    else assert.ok(Math.abs(one - two) < 1e-12, `${i}: ${one}, not ${two}`);
  });
}

Deno.test("length, repetition and format rewards are TRL's", () => {
  const { rewards } = JSON.parse(readFileSync(golden("trl/data_utils.json"), "utf8"));
  const lengths = (all: number[]) => all.map((n) => new Array(n).fill(7));
  for (const of of rewards) {
    switch (of.fn) {
      case "soft_overlong_punishment":
        near(
          scores(
            `get_soft_overlong_punishment:max_completion_len=${of.max_completion_len}:soft_punish_cache=${of.soft_punish_cache}`,
            { completionIds: lengths(of.lengths) },
          ),
          of.out,
        );
        break;
      case "repetition_penalty":
        near(
          scores(
            `get_repetition_penalty_reward:ngram_size=${of.ngram_size}:max_penalty=${of.max_penalty}`,
            { completionIds: of.completion_ids },
          ),
          of.out,
        );
        break;
      case "think_format":
        near(scores("think_format_reward", { completions: of.completions }), of.out);
        near(scores("think_format_reward", { completions: of.completions.map(say) }), of.out);
        break;
      default:
        assert.fail(`an unknown function ${of.fn}`);
    }
  }
  assert.equal(rewards.length, 7);
});

Deno.test("accuracy compares with the solution; what cannot be compared does not count", () => {
  const completions = [
    "\\boxed{\\frac{1}{3}}",
    "\\boxed{\\frac{1}{2}}",
    "It is 1/3",
    "no idea",
    "\\boxed{7}",
  ];
  const solution = ["\\frac{1}{3}", "\\frac{1}{3}", "$\\frac13$", "4", "because"];
  near(scores("accuracy_reward", { completions, columns: { solution } }), [1, 0, 1, 0, null]);
  near(scores("accuracy_reward", { completions: completions.map(say), columns: { solution } }), [
    1,
    0,
    1,
    0,
    null,
  ]);
  const reasoned = [
    "<think> 1/2? </think> \\boxed{\\frac{1}{3}}",
    "<think> \\boxed{\\frac{1}{3}} </think> \\boxed{2}",
    "<think> \\boxed{\\frac13}",
    "</think> 4",
    "</think> 7",
  ];
  near(scores("reasoning_accuracy_reward", { completions: reasoned, columns: { solution } }), [
    1,
    0,
    0,
    1,
    null,
  ]);
  near(scores("accuracy_reward", { completions: ["so 4"], columns: { solution: [4] } }), [1]);
  assert.throws(
    () => scores("accuracy_reward", { completions: ["4"], columns: { answer: ["4"] } }),
    /compares answers with the column "solution", which the dataset does not have; it has prompt, answer\. Give/,
  );
  assert.throws(
    () => scores("accuracy_reward", { completions: ["4", "4"], columns: { solution: ["4", null] } }),
    /the column "solution", which is null for a prompt/,
  );
});

Deno.test("the cosine reward goes from one bound to the other, and stays there", () => {
  const completionIds = [0, 50, 100, 400].flatMap((n) => [new Array(n).fill(1), new Array(n).fill(1)]);
  const completions = completionIds.map((_, i) => i % 2 ? "\\boxed{2}" : "\\boxed{1}");
  const columns = { solution: completions.map(() => "1") };
  near(
    scores("get_cosine_scaled_reward", { completions, completionIds, columns }, 100),
    [1, -1, 0.75, -0.75, 0.5, -0.5, 0.5, -0.5],
  );
  near(
    scores("get_cosine_scaled_reward:max_len=200:max_value_correct=3", {
      completions,
      completionIds,
      columns,
    }, 100)
      .slice(4, 6),
    [1.75, -0.75],
  );
  near(
    scores("get_cosine_scaled_reward", {
      completions: ["1"],
      completionIds: [[1]],
      columns: { solution: ["?"] },
    }),
    [null],
  );
});

Deno.test("parameters follow the longest completion, and are checked", () => {
  // From 80 of 100 tokens on.
  near(
    scores("get_soft_overlong_punishment", {
      completionIds: [80, 90, 100, 101].map((n) => new Array(n).fill(1)),
    }),
    [0, -0.5, -1, -1],
  );
  near(scores("length_reward:target=3", { completionIds: [[1], [1, 2, 3], [1, 2, 3, 4, 5]] }), [-2, 0, -2]);
  assert.equal(builtinReward("get_soft_overlong_punishment", 9).name, "soft_overlong_punishment_reward");
  assert.equal(builtinReward("accuracy_reward", 9).name, "accuracy_reward");
  for (const name of ["__proto__", "toString", "accuracy", ""]) {
    assert.throws(
      () => builtinReward(name, 9),
      new RegExp(`no built-in reward "${name}". Expected one of ${BUILTIN_NAMES[0]}`),
    );
  }
  for (
    const text of [
      "length_reward:goal=3",
      "length_reward:target",
      "length_reward:target=x",
      "length_reward:target=",
      "length_reward:constructor=1",
    ]
  ) {
    assert.throws(() => builtinReward(text, 9), /length_reward: got the parameter .* Expected target=number/);
  }
  assert.throws(
    () => builtinReward("get_repetition_penalty_reward:ngram_size=0", 9),
    /ngram_size must be a whole number/,
  );
  assert.throws(
    () => builtinReward("get_soft_overlong_punishment:soft_punish_cache=10", 9),
    /soft_punish_cache must be/,
  );
});
