/** Log-probability and entropy against TRL's fused output head (`tests/goldens/trl/logprob`). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFloats, upload } from "../../../src/gpu/buffers.ts";
import type { Gpu } from "../../../src/gpu/device.ts";
import { readSafetensors } from "../../../src/model/safetensors.ts";
import { add, multiply } from "../../../src/tape/ops/elementwise.ts";
import { logProb } from "../../../src/tape/ops/log_prob.ts";
import { sum } from "../../../src/tape/ops/reduce.ts";
import { compile } from "../../../src/tape/plan.ts";
import { Tape } from "../../../src/tape/tape.ts";
import { golden } from "../../assets.ts";
import { testOnProfiles } from "../../kernels/helpers.ts";
import { logical, physical } from "../gradients.ts";

const recorded = readSafetensors(golden("trl/logprob.safetensors"));
const { cases } = JSON.parse(readFileSync(golden("trl/logprob.json"), "utf8")) as {
  cases: {
    id: string;
    config: { temperature: number; bias?: boolean; softcap?: number; logit_scale?: number };
  }[];
};

/** A matrix, row-major. */
interface Matrix {
  values: ArrayLike<number>;
  columns: number;
}

const rowsOf = ({ values, columns }: Matrix) =>
  Array.from(
    { length: values.length / columns },
    (_, r) => Array.from({ length: columns }, (_, c) => values[r * columns + c]),
  );

const identity = (n: number): Matrix => ({
  values: Float32Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0),
  columns: n,
});

/** Results for hidden states and a head, with the gradients of Σ logprob · dlogprob + entropy · dentropy. */
async function evaluate(
  gpu: Gpu,
  { hidden, head, targets, temperature, softCap, dlogprob, dentropy }: {
    hidden: Matrix;
    head: Matrix;
    targets: Int32Array;
    temperature: number;
    softCap?: number;
    dlogprob: Float32Array;
    dentropy: Float32Array;
  },
) {
  const tape = new Tape(gpu.profile);
  const trained = (label: string, { values, columns }: Matrix) => {
    const shape = [values.length / columns, columns];
    const gradient = upload(gpu, physical({ shape, values: new Float32Array(values.length) }));
    const tensor = tape.external(label, shape, upload(gpu, physical({ shape, values })), gradient);
    return { tensor, read: async () => logical(await readFloats(gpu, gradient), shape) };
  };
  const vector = (label: string, values: Float32Array) =>
    tape.external(label, [values.length], upload(gpu, physical({ shape: [values.length], values })));
  const x = trained("hidden", hidden), w = trained("head", head);
  const ids = tape.external("targets", [targets.length], upload(gpu, Uint32Array.from(targets)));
  ids.dtype = "u32";
  const { logprob, entropy, correct, statistics } = logProb(
    tape,
    x.tensor,
    { parts: [w.tensor], softCap },
    ids,
    temperature,
    { withStatistics: true },
  );
  for (const [name, tensor] of Object.entries({ logprob, entropy, correct, ...statistics! })) {
    tape.output(name, tensor);
  }
  const terms = add(
    tape,
    multiply(tape, logprob, vector("dlogprob", dlogprob)),
    multiply(tape, entropy, vector("dentropy", dentropy)),
  );
  tape.backward(sum(tape, terms), tape.input("one", [1]));
  const out = await compile({ gpu }, tape).run({ one: new Float32Array([1]) });
  return { out, dhidden: await x.read(), dhead: await w.read() };
}

function check(what: string, got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number): void {
  for (let i = 0; i < want.length; i++) {
    assert.ok(Math.abs(got[i] - want[i]) <= tolerance, `${what}[${i}] is ${got[i]}, TRL has ${want[i]}`);
  }
}

const largest = (x: Float32Array) => x.reduce((most, v) => Math.max(most, Math.abs(v)), 0);

testOnProfiles(
  "log-probability, entropy, statistics and gradients are those of TRL's fused head",
  async (gpu) => {
    const hidden = { values: recorded.read("in/hidden"), columns: 16 };
    const weight = { values: recorded.read("in/weight"), columns: 16 }, bias = recorded.read("in/bias");
    const targets = recorded.readIntegers("in/targets");
    const given = { dlogprob: recorded.read("in/grad_logprobs"), dentropy: recorded.read("in/grad_entropy") };
    for (const { id, config } of cases) {
      let x: Matrix = hidden, w: Matrix = weight;
      const scale = config.logit_scale ?? 1;
      if (config.bias) {
        // A bias is a weight of an input that is always 1.
        x = { values: rowsOf(hidden).flatMap((row) => [...row, 1]), columns: 17 };
        w = { values: rowsOf(weight).flatMap((row, v) => [...row, bias[v]]), columns: 17 };
      }
      const { out, dhidden, dhead } = await evaluate(gpu, {
        hidden: x,
        head: w,
        targets,
        temperature: config.temperature / scale,
        softCap: config.softcap,
        ...given,
      });
      check(`${id}: logprob`, out.logprob, recorded.read(`${id}/log_probs`), 1e-5);
      check(`${id}: entropy`, out.entropy, recorded.read(`${id}/entropy`), 1e-5);
      check(`${id}: ln Σ p²`, out.logSumSquares, recorded.read(`${id}/log_sum_sq_probs`), 1e-5);
      const means = recorded.read(`${id}/mean_logits`).map((mean) => mean * config.temperature / scale);
      check(`${id}: mean logit`, out.meanLogit, means, 1e-5);
      check(`${id}: top-1`, out.correct, recorded.readIntegers(`${id}/is_top1`), 0);
      const ofInputs = (values: Float32Array) =>
        rowsOf({ values, columns: x.columns }).flatMap((row) => row.slice(0, 16));
      for (const [name, got] of [["hidden", dhidden], ["weight", dhead]] as const) {
        const want = recorded.read(`${id}/grad/${name}`);
        check(`${id}: d ${name}`, ofInputs(got), want, 3e-5 * largest(want));
      }
      if (config.bias) {
        const want = recorded.read(`${id}/grad/bias`);
        check(
          `${id}: d bias`,
          rowsOf({ values: dhead, columns: 17 }).map((row) => row[16]),
          want,
          3e-5 * largest(want),
        );
      }
    }
    assert.equal(cases.length, 4);
  },
);

testOnProfiles("given logits have TRL's selected log-probabilities and entropies", async (gpu) => {
  const vocab = 19, logits = recorded.read("in/logits");
  const zeros = new Float32Array(logits.length / vocab);
  const { out } = await evaluate(gpu, {
    hidden: { values: logits, columns: vocab },
    head: identity(vocab),
    targets: recorded.readIntegers("in/index"),
    temperature: 1,
    dlogprob: zeros,
    dentropy: zeros,
  });
  check("logprob", out.logprob, recorded.read("selective_log_softmax"), 1e-5);
  check("entropy", out.entropy, recorded.read("entropy_from_logits"), 1e-5);
});
