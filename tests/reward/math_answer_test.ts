import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { answerOf, sameAnswer, solutionOf } from "../../src/reward/math_answer.ts";
import { mathValue } from "../../src/reward/math_expression.ts";
import { mutateText } from "../fuzz.ts";

const value = (text: string) => mathValue(text)?.value ?? null;

Deno.test("expressions have the values that they have by hand", () => {
  const cases: [string, number | null][] = [
    ["42", 42],
    ["-3.5", -3.5],
    ["−7", -7],
    [".5", 0.5],
    ["1,234,567.25", 1234567.25],
    ["1{,}500", 1500],
    ["\\$1,000", 1000],
    ["$18", 18],
    ["3/4", 0.75],
    ["\\frac{1}{3}", 1 / 3],
    ["\\dfrac34", 0.75],
    ["-\\frac{22}{7}", -22 / 7],
    ["\\frac{\\sqrt{3}}{2}", Math.sqrt(3) / 2],
    ["2\\sqrt{2}", 2 * Math.SQRT2],
    ["\\sqrt[3]{27}", 3],
    ["2\\pi", 2 * Math.PI],
    ["\\frac{\\pi}{4}", Math.PI / 4],
    ["10^{3}", 1000],
    ["2^10", 1024],
    ["-2^2", -4],
    ["2^{-1}", 0.5],
    ["2^3^2", 512],
    ["6 \\times 10^{-2}", 0.06],
    ["2 \\frac{1}{2}", 2.5],
    ["1 3/4", 1.75],
    ["(1+2)*(3-5)/4", -1.5],
    ["5 \\text{ cm}", 5],
    ["12\\text{ square units}", 12],
    ["30^\\circ", 30],
    ["90°", 90],
    ["7 apples", 7],
    ["x = 5", 5],
    ["n = \\frac{1}{2}.", 0.5],
    ["1.5e3", 1500],
    ["x + 1", null],
    ["", null],
    ["1/0", null],
    ["\\sqrt{-1}", null],
    ["()", null],
    ["1 +", null],
    ["(1", null],
    ["hello", null],
    ["1 2 3", null],
  ];
  for (const [text, expected] of cases) {
    const got = value(text);
    if (expected === null) assert.equal(got, null, text);
    else {assert.ok(
        got !== null && Math.abs(got - expected) < 1e-12 * Math.max(1, Math.abs(expected)),
        `${text}: ${got}`,
      );}
  }
  assert.deepEqual(mathValue("50\\%"), { value: 50, percent: true });
});

Deno.test("answers are the same by value, by parts or by letters", () => {
  const same: [string, string][] = [
    ["\\frac{1}{2}", "0.5"],
    ["1/3", "0.333333"],
    ["2/3", "0.666667"],
    ["50%", "0.5"],
    ["50\\%", "50"],
    ["0.25", "25%"],
    ["1,000", "1000 dollars"],
    ["(1, 2)", "(1,2)"],
    ["(1, \\frac{1}{2})", "(1, 0.5)"],
    ["3, 4", "3,4"],
    ["B", "(b)"],
    ["\\text{east}", "East"],
    ["x+1", "x + 1"],
    ["\\dfrac{x}{2}", "\\frac{x}{2}"],
    ["[0, \\infty)", "[0,\\infty)"],
  ];
  const different: [string, string][] = [
    ["1/3", "0.333"],
    ["1000000", "1000001"],
    ["1e-7", "2e-7"],
    ["5", "50"],
    ["50%", "500"],
    ["(1, 2)", "(2, 1)"],
    ["(1, 2)", "[1, 2]"],
    ["(1, 2)", "(1, 2, 3)"],
    ["B", "C"],
    ["x+1", "1+x"],
    ["3", ""],
  ];
  for (const [a, b] of same) assert.ok(sameAnswer(a, b) && sameAnswer(b, a), `${a} is ${b}`);
  for (const [a, b] of different) assert.ok(!sameAnswer(a, b) && !sameAnswer(b, a), `${a} is not ${b}`);
});

Deno.test("a completion's answer is what it boxed last, else marked, else its last number", () => {
  const cases: [string, string | null][] = [
    ["First \\boxed{1}, no: \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"],
    ["\\boxed 7 it is", "7"],
    ["so 3 + 4 = 7\n#### 7", "7"],
    ["#### 1,200\nThat is all 3.", "1,200"],
    ["He has 12 apples and 3 pears, 15 in all.", "15"],
    ["It costs $1,234.50.", "$1,234.50"],
    ["That is 12.5% of it", "12.5%"],
    ["About 3/4", "3/4"],
    ["From -3 to 10-5", "5"],
    ["It is -3", "-3"],
    ["I do not know.", null],
    ["\\boxed{never closed", null],
  ];
  for (const [text, expected] of cases) assert.equal(answerOf(text), expected, text);
});

Deno.test("a solution without an answer that can be read is none", () => {
  const cases: [string, string | null][] = [
    ["He ate 2, so 5 are left.\n#### 5", "5"],
    ["Thus $x = \\boxed{12}$.", "12"],
    ["$\\frac{3}{4}$", "\\frac{3}{4}"],
    ["\\frac{3}{4}", "\\frac{3}{4}"],
    ["42", "42"],
    ["The result is 42 of them", "42"],
    ["B", "B"],
    ["Because it rains.", null],
    ["", null],
  ];
  for (const [text, expected] of cases) assert.equal(solutionOf(text), expected, text);
});

Deno.test("whatever is read, no text is an error or takes long", () => {
  const random = randomStream(3, "answers");
  const seeds = [
    "\\frac{\\sqrt{3}}{2} + 2^{10}",
    "(1, \\boxed{2, 3})",
    "1,234,567.5 \\text{ cm}",
    "####  -1/2 %",
    "x = {[(1)]}",
  ];
  for (let i = 0; i < 20_000; i++) {
    let text = seeds[random.integer(seeds.length)];
    for (let n = random.integer(6); n > 0 && text; n--) text = mutateText(text, random);
    const expected = solutionOf(text), given = answerOf(text);
    const number = value(text);
    assert.ok(number === null || Number.isFinite(number));
    if (expected !== null && given !== null) sameAnswer(expected, given);
  }
  const start = performance.now();
  for (
    const piece of ["(", "{", "\\frac", "-", "1,", "1 ", "\\boxed{", "^1", "$", "\\text{", " apples", "9"]
  ) {
    const long = piece.repeat(200_000 / piece.length);
    value(long);
    value(piece.repeat(380 / piece.length));
    sameAnswer(long, `${long}x`);
    answerOf(long);
    solutionOf(long);
  }
  assert.ok(performance.now() - start < 20_000, `${performance.now() - start} ms`);
});
