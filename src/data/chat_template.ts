/**
 * Chat templates: `@huggingface/jinja`, made to write values as Python does.
 *
 * The package writes `true`, `null` as nothing, and lists as JSON, where Jinja writes `True`, `None` and Python's form of a list;
 * `strip('\\n')` takes every blank, the rest of a negative number is negative, and no list is equal to another. A conversation
 * would be formatted in another way than in training elsewhere, and nobody would see it. What the package does not know (some
 * filters, `raw`, a text times a number) it refuses with an error.
 *
 * @module
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";

/** A value within a template, as the package holds it. */
interface Value {
  type: string;
  value: unknown;
  toString(): string;
}

/** A node of a template. */
interface Node {
  type: string;
}

/** What of the package's interpreter is replaced; it is not among its public methods, which a test watches. */
interface Insides {
  evaluate(node: Node, environment: unknown): Value;
  evaluateBlock(nodes: Node[], environment: unknown): Value;
  evaluateBinaryExpression(node: Node, environment: unknown): Value;
  applyFilter(operand: Value, filter: Node & { value?: unknown }, environment: unknown): Value;
}

/** Nodes that stand for no value. */
const STATEMENTS = [
  "Set",
  "If",
  "For",
  "Macro",
  "CallStatement",
  "FilterStatement",
  "Break",
  "Continue",
  "Comment",
];

/** Values that hold others. */
const CONTAINERS = ["ArrayValue", "TupleValue", "ObjectValue"];

/** A value as Python's `str` writes it. */
function pythonText(value: Value): string {
  switch (value.type) {
    case "StringValue":
      return value.value as string;
    case "UndefinedValue":
      return "";
    default:
      return pythonForm(value);
  }
}

/** A value as Python's `repr` writes it. */
function pythonForm(value: Value): string {
  switch (value.type) {
    case "NullValue":
      return "None";
    case "BooleanValue":
      return value.value ? "True" : "False";
    case "StringValue":
      return quoted(value.value as string);
    case "ArrayValue":
      return `[${(value.value as Value[]).map(pythonForm).join(", ")}]`;
    case "TupleValue": {
      const parts = (value.value as Value[]).map(pythonForm);
      return parts.length === 1 ? `(${parts[0]},)` : `(${parts.join(", ")})`;
    }
    case "ObjectValue":
      return `{${
        Array.from(value.value as Map<string, Value>, ([key, item]) => `${quoted(key)}: ${pythonForm(item)}`)
          .join(", ")
      }}`;
    case "FloatValue":
      return floatForm(value.value as number);
    case "IntegerValue":
      return String(value.value);
    default:
      throw new Error(`A template writes a ${value.type}, which has no text`);
  }
}

/** Exponents have two digits, and begin at 1e16 and below 1e-4. */
function floatForm(x: number): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  const size = Math.abs(x), exponential = size >= 1e16 || size > 0 && size < 1e-4;
  if (exponential) return x.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  return Number.isInteger(x) ? `${Object.is(x, -0) ? "-0" : x}.0` : String(x);
}

/** Single quotes, but where the text has them and no double ones. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Record<string, string> = {
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    [quote]: `\\${quote}`,
  };
  const body = Array.from(text, (letter) => {
    if (escapes[letter]) return escapes[letter];
    if (letter === " " || !/[\p{C}\p{Z}]/u.test(letter)) return letter;
    const code = letter.codePointAt(0)!.toString(16);
    return code.length <= 2
      ? `\\x${code.padStart(2, "0")}`
      : code.length <= 4
      ? `\\u${code.padStart(4, "0")}`
      : `\\U${code.padStart(8, "0")}`;
  });
  return quote + body.join("") + quote;
}

/** What Python's `strip` takes away where it is not told what. */
const BLANKS =
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000";

/** A text without some letters at its beginning and its end. */
function stripped(text: string, letters: string, left: boolean, right: boolean): string {
  const taken = new Set(letters), parts = Array.from(text);
  let begin = 0, end = parts.length;
  while (left && begin < end && taken.has(parts[begin])) begin++;
  while (right && end > begin && taken.has(parts[end - 1])) end--;
  return parts.slice(begin, end).join("");
}

const insides = Interpreter.prototype as unknown as Insides;
const { evaluateBlock, evaluateBinaryExpression, applyFilter } = insides;

const environment = new Environment(), interpreter = new Interpreter(environment) as unknown as Insides;

/** A text as the package holds it. */
function textValue(text: string): Value {
  const value = evaluateBlock.call(interpreter, [], environment);
  value.value = text;
  return value;
}

insides.evaluateBlock = function (nodes, environment) {
  const texts = nodes.map((node) => {
    const value = this.evaluate(node, environment);
    return STATEMENTS.includes(node.type) && value.type === "NullValue" ? "" : pythonText(value);
  });
  return textValue(texts.join(""));
};

insides.evaluateBinaryExpression = function (node, environment) {
  const { operator, left, right } = node as Node & { operator: { value: string }; left: Node; right: Node };
  if (operator.value === "~") return this.evaluateBlock([left, right], environment);
  const result = evaluateBinaryExpression.call(this, node, environment);
  if (operator.value === "%") {
    // The sign is that of the divisor.
    const divisor = this.evaluate(right, environment).value;
    const rest = result.value;
    if (typeof rest === "number" && typeof divisor === "number" && rest * divisor < 0) {
      result.value = rest + divisor;
    }
  } else if (operator.value === "==" || operator.value === "!=") {
    // Lists and mappings are compared by what is in them.
    const sides = [left, right].map((side) => this.evaluate(side, environment));
    if (sides.every(({ type }) => CONTAINERS.includes(type))) {
      result.value = pythonForm(sides[0]) === pythonForm(sides[1]) === (operator.value === "==");
    }
  }
  return result;
};

insides.applyFilter = function (operand, filter, environment) {
  return operand.type === "StringValue" && filter.type === "Identifier" && filter.value === "trim"
    ? textValue(stripped(operand.value as string, BLANKS, true, true))
    : applyFilter.call(this, operand, filter, environment);
};

const STRIPS: [name: string, left: boolean, right: boolean][] = [
  ["strip", true, true],
  ["lstrip", true, false],
  ["rstrip", false, true],
];
const ofTexts = Object.getPrototypeOf(textValue("")), mended = new WeakSet<object>();
const methods = Object.getOwnPropertyDescriptor(ofTexts, "builtins")!.get!;
Object.defineProperty(ofTexts, "builtins", {
  get(this: Value) {
    const own: Map<string, Value> = methods.call(this);
    if (mended.has(own)) return own;
    mended.add(own);
    for (const [name, left, right] of STRIPS) {
      own.get(name)!.value = ([letters]: Value[]) => {
        const given = letters?.type === "StringValue" ? letters.value as string : BLANKS;
        return textValue(stripped(this.value as string, given, left, right));
      };
    }
    return own;
  },
});

/** A template, ready to be rendered. @throws {Error} when it cannot be read. */
export function chatTemplate(source: string): Template {
  return new Template(source);
}
