/**
 * Values of arithmetic expressions as models write answers: plain, with thousands separators, as percentages, and in simple LaTeX.
 *
 * @module
 */

/** Longer texts are no answers. */
const MOST_CHARACTERS = 400;

/** Deeper expressions are no answers. */
const MOST_DEPTH = 40;

/** LaTeX that says the same as a plainer text. */
const PLAIN: [RegExp, string][] = [
  [/\\(?:left|right|displaystyle|,|;|!|:|quad|qquad|\s)/g, " "],
  [/\\[dt]frac(?![a-zA-Z])/g, "\\frac"],
  [/\\(?:cdot|times)(?![a-zA-Z])/g, "*"],
  [/\\div(?![a-zA-Z])/g, "/"],
  [/[×·]/g, "*"],
  [/÷/g, "/"],
  [/[−–]/g, "-"],
  [/\\pi(?![a-zA-Z])|π/g, " pi "],
  [/\\%/g, "%"],
  [/\\\$|\$|[€£¥]/g, " "],
  [/\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°/g, " "],
];

/** 1,234,567 and LaTeX's 1{,}234. */
const THOUSANDS = /(?<![\d.])\d{1,3}(?:(?:\{,\}|,)\d{3})+(?!\d)/g;

/** A text in plain characters, without LaTeX's spacing, currency signs and degrees. */
export function plainMath(text: string): string {
  let plain = text;
  for (const [pattern, by] of PLAIN) plain = plain.replace(pattern, by);
  plain = plain.replace(THOUSANDS, (number) => number.replace(/[{},]/g, ""));
  return plain.trim();
}

/** Words of units behind a number, in text or in \text{…}. */
function withoutUnits(plain: string): string {
  return plain.replace(/\\(?:text|textbf|mathrm|mathbf|textit)\s*\{[^{}]*\}(?:\^\{?\d\}?)?\s*$/, "")
    .replace(/(?<=[\d)}%])\s+(?!pi\b)[A-Za-z][A-Za-z²³/ .]*$/, "").replace(/[.\s]+$/, "");
}

/** A value, and whether it was given as a percentage. */
export interface MathValue {
  /** The number that is written. */
  value: number;
  /** Whether a percent sign follows it; it is a hundredth then, or simply the number. */
  percent: boolean;
}

/**
 * The value of an expression: numbers, + − * / ^, parentheses, \frac, \sqrt, π, mixed numbers (2 1/2), the right side of `x = …`.
 * Null where the text is anything else.
 *
 * @example
 * ```ts
 * import { mathValue } from "./math_expression.ts";
 * console.log(mathValue("x = \\frac{1{,}500}{4}"), mathValue("x + 1")); // { value: 375, percent: false } null
 * ```
 */
export function mathValue(text: string): MathValue | null {
  if (text.length > MOST_CHARACTERS) return null;
  let plain = withoutUnits(plainMath(text));
  const assigned = /^[A-Za-z]\w{0,2}\s*=(.*)$/s.exec(plain);
  if (assigned) plain = assigned[1];
  plain = plain.trim();
  const percent = plain.endsWith("%");
  if (percent) plain = plain.slice(0, -1);
  const value = evaluate(plain);
  return value === null ? null : { value, percent };
}

const TOKEN = /\s*(?:(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)|(\\frac|\\sqrt|pi\b)|([-+*/^(){}[\]]))/y;

/** Words of an expression; null where there is something else. */
function tokensOf(text: string): string[] | null {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; text.slice(at).trim() !== "";) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) return null;
    tokens.push(match[1] ?? match[2] ?? match[3]);
    at = TOKEN.lastIndex;
  }
  return tokens;
}

/** Not an expression. */
class NotMath extends Error {}

/** The value of an expression; null where it is none, or has no finite value. */
function evaluate(text: string): number | null {
  const tokens = tokensOf(text);
  if (!tokens?.length) return null;
  let at = 0, depth = 0;
  const next = () => tokens[at];
  const expect = (token: string) => {
    if (tokens[at++] !== token) throw new NotMath();
  };
  const within = (open: string, close: string): number => {
    expect(open);
    const value = sum();
    expect(close);
    return value;
  };
  /** An argument of \frac and \sqrt: {…}, or one digit of the number that follows. */
  const argument = (): number => {
    if (next() === "{") return within("{", "}");
    const token = next();
    if (token === undefined || !/^\d+$/.test(token)) throw new NotMath();
    if (token.length === 1) at++;
    else tokens[at] = token.slice(1);
    return Number(token[0]);
  };
  const atom = (): number => {
    const token = next();
    if (token === "(") return within("(", ")");
    if (token === "{") return within("{", "}");
    if (token === undefined) throw new NotMath();
    at++;
    if (token === "pi") return Math.PI;
    if (token === "\\frac") return argument() / argument();
    if (token === "\\sqrt") {
      const root = next() === "[" ? within("[", "]") : 2, value = argument();
      return root === 2 ? Math.sqrt(value) : root === 3 ? Math.cbrt(value) : value ** (1 / root);
    }
    const number = Number(token);
    if (!/^[\d.]/.test(token) || Number.isNaN(number)) throw new NotMath();
    // A mixed number: 2 \frac{1}{2}, 2 1/2.
    if (/^\d+$/.test(token) && next() === "\\frac") return number + atom();
    const [top, slash, bottom] = tokens.slice(at, at + 3);
    if ([token, top, bottom].every((part) => part !== undefined && /^\d+$/.test(part)) && slash === "/") {
      at += 3;
      return number + Number(top) / Number(bottom);
    }
    return number;
  };
  const power = (): number => {
    const base = atom();
    if (next() !== "^") return base;
    at++;
    return base ** signed();
  };
  const signed = (): number => {
    if (++depth > MOST_DEPTH) throw new NotMath();
    try {
      if (next() !== "-" && next() !== "+") return power();
      return tokens[at++] === "-" ? -signed() : signed();
    } finally {
      depth--;
    }
  };
  const product = (): number => {
    let value = signed();
    for (;;) {
      const token = next();
      if (token === "*" || token === "/") {
        at++;
        const other = signed();
        value = token === "*" ? value * other : value / other;
      } else if (token === "(" || token === "pi" || token === "\\sqrt" || token === "\\frac") {
        value *= power();
      } else return value;
    }
  };
  const sum = (): number => {
    let value = product();
    while (next() === "+" || next() === "-") value += tokens[at++] === "+" ? product() : -product();
    return value;
  };
  try {
    const value = sum();
    return at === tokens.length && Number.isFinite(value) ? value : null;
  } catch (error) {
    if (error instanceof NotMath) return null;
    throw error;
  }
}
