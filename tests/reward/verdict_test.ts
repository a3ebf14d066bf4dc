import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { readScore, readVerdict } from "../../src/reward/verdict.ts";
import { mutateText } from "../fuzz.ts";

Deno.test("verdicts are read in the forms in which judges write them", () => {
  const cases: [string, string | null][] = [
    ["Verdict: A", "A"],
    ["Because.\nVerdict: B.", "B"],
    ["**Verdict:** tie", "tie"],
    ["**Verdict: A**", "A"],
    ["verdict: b", "B"],
    ["Verdict: Answer B", "B"],
    ["Verdict = [[A]]", "A"],
    ['{"reason": "short", "verdict": "B"}', "B"],
    ["My final verdict is: [[B]]", "B"],
    ["[[C]]", "tie"],
    ["A", "A"],
    [" (b). ", "B"],
    ["Answer A", "A"],
    ["Tie", "tie"],
    ["Verdict: A\nNo, wait.\nVerdict: B", "B"],
    ["<think>Verdict: A</think>Verdict: B", "B"],
    ["<think>\nVerdict: A\n</think>\nI cannot say.", null],
    ["Verdict: Apples", null],
    ["Verdict: neither", null],
    ["A is better than B.", null],
    ["", null],
    ["Verdict:", null],
  ];
  for (const [text, want] of cases) assert.equal(readVerdict(text), want, text);
});

Deno.test("scores are read in the forms in which judges write them, and only within their range", () => {
  const cases: [string, number | null][] = [
    ["Score: 7", 7],
    ["Fine.\n**Score:** 7.5", 7.5],
    ["Score: 8/10", 8],
    ["Rating: [[9]]", 9],
    ["I give it 6/10.", 6],
    ["[[3]]", 3],
    ["10", 10],
    ['{"score": 4}', 4],
    ["Score: 3\nScore: 5", 5],
    ["<think>Score: 1</think>\nScore: 2", 2],
    ["Score: 11", null],
    ["Score: 0", null],
    ["Score: -3", null],
    ["Score: 1000000", null],
    ["Score: 7.123456", null],
    ["seven", null],
    ["It has 3 parts and 4 errors.", null],
    ["17/10", null],
    ["", null],
  ];
  for (const [text, want] of cases) assert.equal(readScore(text, 1, 10), want, text);
});

Deno.test("no answer of a judge is an error, whatever is in it", () => {
  const random = randomStream(8, "verdicts");
  const seeds = [
    '{"verdict": "A"}',
    "**Verdict:** [[B]].",
    "Score: 7.5/10",
    "<think> Verdict: A </think> tie",
  ];
  for (let i = 0; i < 20_000; i++) {
    let text = seeds[random.integer(seeds.length)];
    for (let n = random.integer(8); n > 0 && text; n--) text = mutateText(text, random);
    assert.ok([null, "A", "B", "tie"].includes(readVerdict(text)));
    const score = readScore(text, 1, 10);
    assert.ok(score === null || score >= 1 && score <= 10);
  }
  const start = performance.now();
  for (const piece of ["verdict", "verdict: ", "[[", "score: ", "1/", " ", "((", "'", "*"]) {
    const long = piece.repeat(1e6 / piece.length);
    readVerdict(long);
    readScore(long, 1, 10);
    assert.equal(readVerdict(`${long}\nVerdict: tie`), "tie");
  }
  assert.ok(performance.now() - start < 10_000, `${performance.now() - start} ms`);
});
