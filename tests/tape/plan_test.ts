/** Plans: replays, shared memory, the same bits every time, and finding the kernel that broke a number. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { elementwise } from "../../kernels/elementwise.ts";
import { counters, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { exp, multiply, square } from "../../src/tape/ops/elementwise.ts";
import { linear } from "../../src/tape/ops/linear.ts";
import { sum } from "../../src/tape/ops/reduce.ts";
import { compile, type Workspace } from "../../src/tape/plan.ts";
import { planCache } from "../../src/tape/plans.ts";
import { Tape } from "../../src/tape/tape.ts";
import { random, testOnProfiles } from "../kernels/helpers.ts";
import { digestAfter, openTraining } from "./training_bits.ts";

testOnProfiles("a training step allocates nothing once it runs", async (gpu) => {
  const { step } = openTraining(gpu);
  const first = await step();
  const before = { ...counters };
  let last = first;
  for (let i = 0; i < 20; i++) last = await step();
  assert.deepEqual(counters, before);
  assert.ok(last < first, `the loss went from ${first} to ${last}`);
});

testOnProfiles("training gives the same bits twice in one process and in another process", async (gpu) => {
  const { kind } = gpu.profile;
  const here = await digestAfter(gpu, 3);
  assert.equal(await digestAfter(gpu, 3), here);
  const program = fileURLToPath(new URL("training_bits.ts", import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", program, kind, "3"],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.equal(new TextDecoder().decode(stdout).trim(), here);
});

/** Σ exp(x)² of a vector of `count` numbers, recorded in its own plan. */
function sumOfSquares(workspace: Workspace, count: number) {
  const tape = new Tape(workspace.gpu.profile);
  tape.output("y", sum(tape, square(tape, exp(tape, tape.input("x", [count])))));
  return compile(workspace, tape);
}

testOnProfiles("plans share one arena, and a larger one does not break the smaller ones", async (gpu) => {
  const workspace: Workspace = { gpu };
  const small = sumOfSquares(workspace, 10), x = random(1).floats(40_000);
  const of = (count: number) => ({ x: x.slice(0, count) });
  const want = (count: number) => x.subarray(0, count).reduce((total, v) => total + Math.exp(v) ** 2, 0);
  const near = (got: number, count: number) => assert.ok(Math.abs(got / want(count) - 1) < 1e-5, `${count}`);
  near((await small.run(of(10))).y[0], 10);
  const arena = workspace.arena;
  const large = sumOfSquares(workspace, 40_000);
  near((await large.run(of(40_000))).y[0], 40_000);
  assert.notEqual(workspace.arena, arena);
  near((await small.run(of(10))).y[0], 10);
  near((await large.run(of(40_000))).y[0], 40_000);
  assert.ok(large.bytes <= 3 * 160_000, `${large.bytes} bytes: x² may take the place of x`);
});

testOnProfiles("a plan runs several times in one submit", async (gpu) => {
  const tape = new Tape(gpu.profile);
  const counter = tape.external("counter", [4], upload(gpu, new Float32Array(4)));
  const increment = { name: "copy", expression: "a", accumulate: true };
  tape.push(elementwise(gpu.profile, increment, { a: tape.input("one", [4]) }, counter, 4));
  tape.output("counter", counter);
  const plan = compile({ gpu }, tape);
  plan.submit({ one: new Float32Array([1, 2, 3, 4]) }, 5);
  assert.deepEqual([...(await plan.read()).counter], [5, 10, 15, 20]);
});

testOnProfiles("wrong inputs are refused by name", async (gpu) => {
  const plan = sumOfSquares({ gpu }, 8);
  await assert.rejects(plan.run({}), /without its input "x"/);
  await assert.rejects(plan.run({ x: new Float32Array(9) }), /"x" has 9 elements; expected 8/);
  const tape = new Tape(gpu.profile);
  square(tape, tape.input("odd", [3, 5]));
  assert.throws(() => compile({ gpu }, tape), /"odd" needs a multiple of four columns; got 5/);
});

/** Three maps in a row and a sum, [5] numbers. */
function chain(gpu: Gpu, workspace: Workspace = { gpu }) {
  const tape = new Tape(gpu.profile);
  const x = tape.input("x", [5]), y = tape.input("y", [5]);
  const weight = tape.external("weight", [3, 5], upload(gpu, new Float32Array(24).fill(0.1)));
  const matrix = tape.external("matrix", [2, 5], upload(gpu, new Float32Array(16)));
  tape.output("a", sum(tape, square(tape, x)));
  tape.output("b", multiply(tape, exp(tape, x), y));
  tape.output("c", linear(tape, matrix, weight));
  return compile(workspace, tape);
}

testOnProfiles("the first kernel with a number that is not finite is named", async (gpu) => {
  const plan = chain(gpu);
  const good = new Float32Array([1, -2, 3, 0.5, 0]);
  const withNaN = good.map((v, i) => i === 3 ? NaN : v);
  assert.equal(await plan.findNonFinite({ x: good, y: good }), undefined);
  assert.equal(
    await plan.findNonFinite({ x: withNaN, y: good }),
    'map_square wrote a non-finite value to "square" [5]; the input "x" had one already',
  );
  assert.equal(
    await plan.findNonFinite({ x: good, y: withNaN }),
    'map_multiply wrote a non-finite value to "multiply" [5]; the input "y" had one already',
  );
  const large = good.map((v, i) => i === 2 ? 100 : v);
  assert.match((await plan.findNonFinite({ x: large, y: good }))!, /^map_exp wrote .* "exp" \[5\]$/);
});

testOnProfiles("what an earlier run left in memory is not blamed on the next", async (gpu) => {
  const workspace: Workspace = { gpu };
  const plan = chain(gpu, workspace), other = sumOfSquares(workspace, 20_000);
  await other.run({ x: new Float32Array(20_000).fill(NaN) });
  const good = new Float32Array([1, -2, 3, 0.5, 0]);
  assert.equal(await plan.findNonFinite({ x: good, y: good }), undefined);
  const { a } = await plan.run({ x: good, y: good });
  assert.ok(Math.abs(a[0] - 14.25) < 1e-5);
});

testOnProfiles("a poisoned weight is found inside a training step", async (gpu) => {
  const { plan, inputs, params } = openTraining(gpu);
  assert.equal(await plan.findNonFinite(inputs), undefined);
  const { offset } = params.layout.slots.get("1.down")!;
  gpu.device.queue.writeBuffer(
    params.values.buffer,
    params.values.offset + offset * 4,
    new Float32Array([NaN]),
  );
  assert.match((await plan.findNonFinite(inputs))!, /^matmul_.*residual.* wrote a non-finite value/);
});

testOnProfiles("plans are compiled once per shape", async (gpu) => {
  let compiled = 0;
  const planOf = planCache({ gpu }, (tape: Tape, count: number, kind: string) => {
    compiled++;
    const x = tape.input("x", [count]);
    tape.output("y", kind === "square" ? square(tape, x) : exp(tape, x));
  });
  const { y } = await planOf(3, "square").run({ x: new Float32Array([1, 2, 3]) });
  assert.deepEqual([...y.subarray(0, 3)], [1, 4, 9]);
  assert.equal(planOf(3, "square"), planOf(3, "square"));
  assert.notEqual(planOf(3, "exp"), planOf(4, "square"));
  assert.equal(compiled, 3);
});
