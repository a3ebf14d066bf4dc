import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { wilson } from "../../src/sample/preferences.ts";
import {
  choosePairs,
  type Compared,
  type LabelledPrompt,
  type PairChoice,
  preferenceRow,
  winRates,
} from "../../src/train/label_pairs.ts";
import { labelReport, reportLines } from "../../src/train/label_report.ts";

/** A labelled prompt with different texts, unless a test says otherwise. */
function labelled(given: Partial<LabelledPrompt>, count: number): LabelledPrompt {
  return {
    row: 0,
    prompt: "p",
    completions: Array.from({ length: count }, (_, i) => `answer ${i}`),
    tokens: Array.from({ length: count }, (_, i) => i + 1),
    scores: {},
    ...given,
  };
}

const best: PairChoice = { by: "rm", pairs: "best_worst", minMargin: 0 };
const all: PairChoice = { ...best, pairs: "all" };

Deno.test("the best goes with the worst, ties and unknown ones are counted", () => {
  const choose = (scores: (number | null)[], choice = best) =>
    choosePairs(labelled({ scores: { rm: scores } }, scores.length), choice);
  assert.deepEqual(choose([1, 3, -2, 0]), { chosen: [{ chosen: 1, rejected: 2 }], ties: 0, unanswered: 0 });
  assert.deepEqual(choose([null, 3, null, 0]), {
    chosen: [{ chosen: 1, rejected: 3 }],
    ties: 0,
    unanswered: 0,
  });
  assert.deepEqual(choose([2, 2]), { chosen: [], ties: 1, unanswered: 0 });
  assert.deepEqual(choose([null, 2]), { chosen: [], ties: 0, unanswered: 1 });
  assert.deepEqual(choose([1, 1.5], { ...best, minMargin: 0.5 }), { chosen: [], ties: 1, unanswered: 0 });
  assert.deepEqual(choose([1, 1.5], { ...best, minMargin: 0.4 }).chosen, [{ chosen: 1, rejected: 0 }]);
  assert.deepEqual(choose([0, 1, null, 1], all), {
    chosen: [{ chosen: 1, rejected: 0 }, { chosen: 3, rejected: 0 }],
    ties: 1,
    unanswered: 3,
  });
});

Deno.test("equal texts are a tie, whatever their scores", () => {
  const same = labelled({ completions: ["a", "a", "b"], scores: { rm: [3, 1, 2] } }, 3);
  assert.deepEqual(choosePairs(same, best), { chosen: [], ties: 1, unanswered: 0 });
  assert.deepEqual(choosePairs(same, all).chosen, [{ chosen: 0, rejected: 2 }, { chosen: 2, rejected: 1 }]);
});

Deno.test("a pairwise judge orders answers by the comparisons that they win", () => {
  const comparisons: Compared[] = [
    { first: 0, second: 1, better: "first", flipped: false },
    { first: 0, second: 2, better: "second", flipped: false },
    { first: 1, second: 2, better: "tie", flipped: true },
  ];
  assert.deepEqual(winRates(comparisons, 4), [0.5, 0.25, 0.75, null]);
  const judged = labelled({ comparisons, scores: { judge: winRates(comparisons, 3) } }, 3);
  const by = { by: "judge", minMargin: 9 };
  assert.deepEqual(choosePairs(judged, { ...by, pairs: "best_worst" }).chosen, [{ chosen: 2, rejected: 1 }]);
  assert.deepEqual(choosePairs(judged, { ...by, pairs: "all" }), {
    chosen: [{ chosen: 0, rejected: 1 }, { chosen: 2, rejected: 0 }],
    ties: 1,
    unanswered: 0,
  });
  const silent = labelled({
    comparisons: [{ first: 0, second: 1, better: null, flipped: false }],
    scores: { judge: [null, null] },
  }, 2);
  for (const pairs of ["best_worst", "all"] as const) {
    assert.deepEqual(choosePairs(silent, { ...by, pairs }), { chosen: [], ties: 0, unanswered: 1 });
  }
});

Deno.test("every pair's chosen side has the higher score, and pairs, ties and unknown ones add up", () => {
  const random = randomStream(4, "labels");
  for (let i = 0; i < 300; i++) {
    const count = 2 + random.integer(6);
    const scores = Array.from({ length: count }, () => random.integer(5) ? random.integer(4) : null);
    const completions = Array.from({ length: count }, () => "x".repeat(random.integer(9)));
    const prompt = labelled({ completions, scores: { rm: scores } }, count);
    const { chosen, ties, unanswered } = choosePairs(prompt, all);
    assert.equal(chosen.length + ties + unanswered, count * (count - 1) / 2);
    for (const pair of [...chosen, ...choosePairs(prompt, best).chosen]) {
      assert.ok(scores[pair.chosen]! > scores[pair.rejected]!);
      assert.notEqual(completions[pair.chosen], completions[pair.rejected]);
    }
  }
});

Deno.test("rows are preference rows with the scores of all labellers and what a template needs", () => {
  const prompt = [{ role: "user", content: "q" }],
    said = (content: string) => [{ role: "assistant", content }];
  const row = preferenceRow(
    labelled({
      prompt,
      template: { tools: [{ name: "f" }] },
      completions: [said("a"), said("b")],
      scores: { judge: [0, 1], rm: [2, null] },
    }, 2),
    { chosen: 1, rejected: 0 },
    "judge",
  );
  assert.deepEqual(row, {
    prompt,
    tools: [{ name: "f" }],
    chosen: said("b"),
    rejected: said("a"),
    score_chosen: 1,
    score_rejected: 0,
    scores: { judge: [1, 0], rm: [null, 2] },
  });
});

Deno.test("the report counts agreement where both decide, ties, position bias and lengths", () => {
  const judged = (better: Compared["better"], flipped: boolean, rm: (number | null)[], tokens: number[]) => {
    const comparisons: Compared[] = [{ first: 0, second: 1, better, flipped }];
    return labelled({ comparisons, tokens, scores: { judge: winRates(comparisons, 2), rm } }, 2);
  };
  const prompts = [
    judged("first", false, [2, 1], [9, 4]),
    judged("first", false, [1, 2], [3, 5]),
    judged("second", false, [1, 2], [5, 5]),
    judged("tie", true, [1, 2], [5, 5]),
    judged("first", false, [1, 1], [8, 2]),
    judged(null, false, [1, 2], [8, 2]),
    labelled({ completions: ["a", "a"], scores: { judge: [0.5, 0.5], rm: [1, 2] } }, 2),
  ];
  const report = labelReport(prompts, { by: "judge", pairs: "best_worst", minMargin: 0 });
  assert.deepEqual(report, {
    prompts: 7,
    completions: 14,
    candidates: 7,
    pairs: 4,
    ties: 2,
    unanswered: 1,
    same_text: 1,
    tie_rate: 2 / 7,
    label_by: "judge",
    labellers: {
      judge: { decided: 4, ties: 2, unanswered: 1 },
      rm: { decided: 5, ties: 2, unanswered: 0 },
    },
    agreement: [{ labellers: ["judge", "rm"], pairs: 3, ...wilson(2, 3) }],
    position_bias: 1 / 5,
    comparisons: 5,
    chosen_longer: 2 / 3,
    tokens_chosen: (9 + 3 + 5 + 8) / 4,
    tokens_rejected: (4 + 5 + 5 + 2) / 4,
  });
  const lines = reportLines(report).join("\n");
  assert.match(lines, /4 pairs from 7 prompts with 14 completions, labelled by judge/);
  assert.match(lines, /dropped: 2 ties \(28\.6 % of 7; 1 of them equal texts\), 1 without an answer/);
  assert.match(lines, /position bias: 20\.0 % of 5 comparisons/);
  assert.match(lines, /judge and rm agree on 66\.7 %/);
});
