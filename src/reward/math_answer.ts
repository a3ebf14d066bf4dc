/**
 * Final answers to mathematical questions: where they stand in a text, and whether two are the same.
 *
 * Less than TRL's accuracy reward, which asks a computer algebra system (math-verify): numbers are compared by value, everything else
 * by its letters. x + 1 and 1 + x are different here, and sets, matrices and equations count only as they are written.
 *
 * @module
 */
import { mathValue, plainMath } from "./math_expression.ts";

/** The content of the last \boxed{…} or \fbox{…}, whose braces may be nested; null where there is none that ends. */
function lastBoxed(text: string): string | null {
  const start = Math.max(text.lastIndexOf("\\boxed"), text.lastIndexOf("\\fbox"));
  if (start < 0) return null;
  const open = /^\\(?:boxed|fbox)\s*/.exec(text.slice(start, start + 40))!;
  const at = start + open[0].length;
  if (text[at] !== "{") return /^\S+/.exec(text.slice(at, at + 40))?.[0] ?? null;
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    if (text[i] === "{") depth++;
    if (text[i] === "}" && --depth === 0) return text.slice(at + 1, i);
  }
  return null;
}

/** What follows the last ####, as GSM8K marks answers. */
function lastMarked(text: string): string | null {
  const at = text.lastIndexOf("####");
  return at < 0 ? null : text.slice(at + 4).split("\n")[0].trim() || null;
}

const NUMBER =
  /(?:(?<![\d)])[-−])?[$€£]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s*\/\s*\d+)?(?:\s*\\?%)?/g;

/** The last number of a text. */
function lastNumber(text: string): string | null {
  return text.match(NUMBER)?.at(-1) ?? null;
}

/** The answer that a completion gives: in its last \boxed{…}, after its last ####, or its last number. */
export function answerOf(text: string): string | null {
  return lastBoxed(text) ?? lastMarked(text) ?? lastNumber(text);
}

/**
 * The answer of a dataset's solution: as in a completion, or the whole of it where it is an expression. Null where no answer can be
 * found in it.
 */
export function solutionOf(text: string): string | null {
  const marked = lastBoxed(text) ?? lastMarked(text);
  if (marked !== null) return marked;
  const bare = text.trim().replace(/^(?:\$\$?|\\\(|\\\[)(.*?)(?:\$\$?|\\\)|\\\])$/s, "$1");
  const isMath = bare !== text.trim() || /\\[a-z]+/i.test(bare) || /^\(?[A-Z]\)?$/.test(bare);
  if (isMath || mathValue(bare) !== null) return bare;
  return lastNumber(text);
}

/** An expression's letters alone, for comparison. */
function letters(text: string): string {
  return plainMath(text).replace(/\\(?:text|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}/g, "$1")
    .replace(/\\frac\s*(\d)\s*(\d)/g, "\\frac{$1}{$2}").replace(/[\s.]+$/, "").replace(/\s+/g, "")
    .replace(/^\(([A-Za-z])\)$/, "$1").toLowerCase();
}

/** Parts of a list or a tuple that commas outside of brackets separate; undefined for a single thing. */
function partsOf(text: string): string[] | undefined {
  const plain = plainMath(text), inner = /^[([{](.*)[)\]}]$/s.exec(plain)?.[1] ?? plain;
  const parts: string[] = [];
  let depth = 0, from = 0;
  for (let i = 0; i <= inner.length; i++) {
    if ("([{".includes(inner[i] ?? " ")) depth++;
    else if (")]}".includes(inner[i] ?? " ")) depth--;
    else if (i === inner.length || (inner[i] === "," && depth === 0)) {
      parts.push(inner.slice(from, i).trim());
      from = i + 1;
    }
  }
  return parts.length > 1 && depth === 0 ? parts : undefined;
}

/** Whether two numbers agree in six digits, or are both written out and equal. */
function sameNumber(expected: number, given: number): boolean {
  return Math.abs(expected - given) <= 1e-6 * Math.min(1, Math.abs(expected)) + 1e-12 * Math.abs(expected);
}

/**
 * Whether two answers are the same: numbers by value, to about six digits (50 % is 0.5 and 50), lists part by part, everything else by
 * letters, without spaces and case.
 *
 * @example
 * ```ts
 * import { sameAnswer } from "./math_answer.ts";
 * console.log(sameAnswer("\\frac{1}{2}", "0.5"), sameAnswer("1,000", "1000 apples"), sameAnswer("2", "3")); // true true false
 * ```
 */
export function sameAnswer(expected: string, given: string): boolean {
  const [a, b] = [mathValue(expected), mathValue(given)];
  if (a && b) {
    if (sameNumber(a.value, b.value)) return true;
    if (a.percent === b.percent) return false;
    return sameNumber(a.percent ? a.value / 100 : a.value, b.percent ? b.value / 100 : b.value);
  }
  if (letters(expected) === letters(given)) return true;
  const [left, right] = [partsOf(expected), partsOf(given)];
  if (!left || !right || left.length !== right.length) return false;
  // An interval's brackets say whether its ends belong to it.
  const brackets = (text: string) => plainMath(text).replace(/^([([{])?.*?([)\]}])?$/s, "$1$2");
  if (brackets(expected) !== brackets(given)) return false;
  return left.every((part, i) => sameAnswer(part, right[i]));
}
