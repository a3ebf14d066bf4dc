/** Recording: how gradients are gathered from several uses of a tensor, and what is refused. */
import assert from "node:assert/strict";
import { add, multiply, square, subtract } from "../../src/tape/ops/elementwise.ts";
import { linear } from "../../src/tape/ops/linear.ts";
import { Tape, type Tensor } from "../../src/tape/tape.ts";
import { random, testOnProfiles } from "../kernels/helpers.ts";
import { checkOperation, uniform } from "./gradients.ts";

const ROWS = 5, WIDTH = 6;

/** One node of a random graph over matrices of one shape: an operation on earlier nodes. */
interface Node {
  kind: "linear" | "residual" | "add" | "subtract" | "multiply" | "square";
  a: number;
  b: number;
  weight: "v" | "w";
}

/** A graph whose last node depends on many others, several of them used more than twice. */
function randomGraph(seed: number): Node[] {
  const { below } = random(seed);
  const kinds = [
    "linear",
    "residual",
    "residual",
    "residual",
    "add",
    "subtract",
    "multiply",
    "square",
  ] as const;
  return Array.from({ length: 4 + below(8) }, (_, i) => ({
    kind: kinds[below(kinds.length)],
    a: i - below(Math.min(i + 1, 3)),
    b: below(i + 1),
    weight: below(2) ? "v" : "w",
  }));
}

function recordGraph(tape: Tape, graph: Node[], given: Record<"x" | "v" | "w", Tensor>): Tensor {
  const nodes = [given.x];
  for (const { kind, a, b, weight } of graph) {
    const x = nodes[a], y = nodes[b];
    if (kind === "linear") nodes.push(linear(tape, x, given[weight]));
    else if (kind === "residual") nodes.push(linear(tape, x, given[weight], { residual: y }));
    else if (kind === "add") nodes.push(add(tape, x, y));
    else if (kind === "subtract") nodes.push(subtract(tape, x, y));
    else if (kind === "multiply") nodes.push(multiply(tape, x, y));
    else nodes.push(square(tape, x));
  }
  return nodes[nodes.length - 1];
}

function evaluate(graph: Node[], given: Record<"x" | "v" | "w", Float64Array>): Float64Array {
  const product = (x: Float64Array, w: Float64Array) =>
    x.map((_, i) => {
      let sum = 0;
      for (let c = 0; c < WIDTH; c++) sum += x[i - i % WIDTH + c] * w[i % WIDTH * WIDTH + c];
      return sum;
    });
  const nodes = [given.x];
  for (const { kind, a, b, weight } of graph) {
    const x = nodes[a], y = nodes[b];
    if (kind === "linear") nodes.push(product(x, given[weight]));
    else if (kind === "residual") nodes.push(product(x, given[weight]).map((v, i) => v + y[i]));
    else if (kind === "add") nodes.push(x.map((v, i) => v + y[i]));
    else if (kind === "subtract") nodes.push(x.map((v, i) => v - y[i]));
    else if (kind === "multiply") nodes.push(x.map((v, i) => v * y[i]));
    else nodes.push(x.map((v) => v * v));
  }
  return nodes[nodes.length - 1];
}

const PARAMETERS = {
  x: uniform(1, [ROWS, WIDTH], 0.8),
  v: uniform(2, [WIDTH, WIDTH], 0.5),
  w: uniform(3, [WIDTH, WIDTH], 0.5),
};

testOnProfiles("random graphs of residuals and shared tensors have the gradients of float64", async (gpu) => {
  for (let seed = 0; seed < 30; seed++) {
    const graph = randomGraph(seed);
    await checkOperation(gpu, `graph ${JSON.stringify(graph)}`, {
      parameters: PARAMETERS,
      record: (tape, given) => recordGraph(tape, graph, given),
      reference: (given) => evaluate(graph, given),
      tolerance: 2e-5,
    });
  }
});

testOnProfiles("a tensor used as residual, input and factor keeps all three gradients", async (gpu) => {
  const graph: Node[] = [
    { kind: "linear", a: 0, b: 0, weight: "v" },
    { kind: "residual", a: 1, b: 1, weight: "w" }, // input and residual
    { kind: "residual", a: 2, b: 1, weight: "v" }, // residual again
    { kind: "multiply", a: 3, b: 1, weight: "v" }, // factor
    { kind: "residual", a: 4, b: 3, weight: "w" }, // its gradient is passed on twice
  ];
  await checkOperation(gpu, "three uses", {
    parameters: PARAMETERS,
    record: (tape, given) => recordGraph(tape, graph, given),
    reference: (given) => evaluate(graph, given),
  });
});

const PROFILE = { kind: "cpu", lanes: 8 } as const;

Deno.test("nothing is recorded for tensors that no parameter reaches", () => {
  const tape = new Tape(PROFILE);
  const y = square(tape, tape.input("x", [8]));
  assert.equal(y.differentiable, false);
  assert.equal(tape.launches.length, 1);
  assert.throws(() => tape.backward(y, tape.input("one", [1])), /"square" does not depend on a parameter/);
});

Deno.test("an input has one tensor however often it is asked for", () => {
  const tape = new Tape(PROFILE);
  assert.equal(tape.input("ids", [8], "u32"), tape.input("ids", [8], "u32"));
  assert.equal(tape.inputs.size, 1);
});

Deno.test("a shape that is not of whole positive numbers is refused", () => {
  const tape = new Tape(PROFILE);
  for (const shape of [[0], [3, -1], [2.5]]) {
    assert.throws(() => tape.tensor("hidden", shape), /"hidden" cannot have the shape/);
  }
});

Deno.test("rows of a matrix lie in its memory, padding included", () => {
  const tape = new Tape(PROFILE);
  const matrix = tape.tensor("x", [9, 5]), vector = tape.tensor("v", [9]);
  const { shape, offset, sharedWith } = tape.rows(matrix, 3, 2);
  assert.deepEqual({ shape, offset }, { shape: [2, 5], offset: 3 * 8 * 4 });
  assert.equal(sharedWith, matrix);
  assert.equal(tape.rows(vector, 3, 2).offset, 12);
});
