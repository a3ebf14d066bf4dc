/**
 * Elementwise operations on tensors of one shape, each with its derivative in one line.
 *
 * Expressions are WGSL over vec4f: `a`, `b`, `c` are the inputs, `y` the output, `g` its gradient. An input of shape [1]
 * beside larger ones is one number for all elements; it gets no gradient.
 *
 * @module
 */
import { elementwise } from "../../../kernels/elementwise.ts";
import { physicalSize, type Tape, type Tensor } from "../tape.ts";

const NAMES = ["a", "b", "c"] as const;
const uses = (expression: string, name: string) => new RegExp(`\\b${name}\\b`).test(expression);

function map(tape: Tape, name: string, expression: string, inputs: Tensor[], derivatives: string[]): Tensor {
  const largest = inputs.reduce((a, b) => physicalSize(b.shape) > physicalSize(a.shape) ? b : a);
  const isScalar = (t: Tensor) => t.shape.length === 1 && t.shape[0] === 1 && largest.shape[0] !== 1;
  for (const t of inputs) {
    if (!isScalar(t) && t.shape.join() !== largest.shape.join()) {
      throw new Error(
        `${name} needs tensors of one shape; got ${inputs.map((i) => `[${i.shape}]`).join(" and ")}.`,
      );
    }
  }
  const out = tape.tensor(name, largest.shape);
  const launch = (key: string, text: string, to: Tensor, accumulate: boolean, g?: Tensor) => {
    const known: Record<string, Tensor> = { y: out, ...(g ? { g } : {}) };
    inputs.forEach((t, i) => known[NAMES[i]] = t);
    const used = Object.fromEntries(Object.entries(known).filter(([n]) => uses(text, n)));
    const scalars = Object.keys(used).filter((n) => isScalar(used[n]));
    tape.push(
      elementwise(
        tape.profile,
        { name: key, expression: text, scalars, accumulate },
        used,
        to,
        physicalSize(to.shape),
      ),
    );
  };
  launch(name, expression, out, false);
  tape.record(name, out, inputs, (g) => {
    inputs.forEach((input, i) => {
      if (isScalar(input) && input.differentiable) {
        throw new Error(`${name} broadcasts "${input.label}", which cannot have a gradient.`);
      }
      tape.contribute(
        input,
        (to, accumulate) => launch(`${name}_d${NAMES[i]}`, derivatives[i], to, accumulate, g),
      );
    });
  });
  return out;
}

const ONE = "vec4f(1.0)", ZERO = "vec4f()";

/** a + b. */
export function add(tape: Tape, a: Tensor, b: Tensor): Tensor {
  return map(tape, "add", "a + b", [a, b], ["g", "g"]);
}

/** a − b. */
export function subtract(tape: Tape, a: Tensor, b: Tensor): Tensor {
  return map(tape, "subtract", "a - b", [a, b], ["g", "-g"]);
}

/** a in memory of its own. */
export function copied(tape: Tape, a: Tensor): Tensor {
  return map(tape, "copy", "a", [a], ["g"]);
}

/** a · b. */
export function multiply(tape: Tape, a: Tensor, b: Tensor): Tensor {
  return map(tape, "multiply", "a * b", [a, b], ["g * b", "g * a"]);
}

/** −a. */
export function negate(tape: Tape, a: Tensor): Tensor {
  return map(tape, "negate", "-a", [a], ["-g"]);
}

/** eᵃ. */
export function exp(tape: Tape, a: Tensor): Tensor {
  return map(tape, "exp", "exp(a)", [a], ["g * y"]);
}

/** a². */
export function square(tape: Tape, a: Tensor): Tensor {
  return map(tape, "square", "a * a", [a], ["2.0 * g * a"]);
}

/** ln σ(a), exact for large |a|. */
export function logSigmoid(tape: Tape, a: Tensor): Tensor {
  return map(tape, "log_sigmoid", `min(a, ${ZERO}) - log(1.0 + exp(-abs(a)))`, [a], ["g / (1.0 + exp(a))"]);
}

/** The larger of a and b; where they are equal each gets half of the gradient, as in PyTorch. */
export function maximum(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const share = (x: string, y: string) =>
    `g * (select(${ZERO}, ${ONE}, ${x} > ${y}) + select(${ZERO}, vec4f(0.5), ${x} == ${y}))`;
  return map(tape, "maximum", "max(a, b)", [a, b], [share("a", "b"), share("b", "a")]);
}

/** The smaller of a and b; where they are equal each gets half of the gradient. */
export function minimum(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const share = (x: string, y: string) =>
    `g * (select(${ZERO}, ${ONE}, ${x} < ${y}) + select(${ZERO}, vec4f(0.5), ${x} == ${y}))`;
  return map(tape, "minimum", "min(a, b)", [a, b], [share("a", "b"), share("b", "a")]);
}

/** a limited to [b, c]; the gradient passes where a lies inside, the ends included. */
export function clamp(tape: Tape, a: Tensor, low: Tensor, high: Tensor): Tensor {
  const inside = `select(${ZERO}, g, (a >= b) & (a <= c))`;
  return map(tape, "clamp", "min(max(a, b), c)", [a, low, high], [inside, ZERO, ZERO]);
}

/** a without its gradient. */
export function detach(tape: Tape, a: Tensor): Tensor {
  return tape.tensor(`${a.label} (constant)`, a.shape, { dtype: a.dtype, sharedWith: a });
}
