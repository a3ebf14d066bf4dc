import assert from "node:assert/strict";
import { adamw, ADAMW_SETTINGS } from "../../kernels/adamw.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { OUTSIDE, run } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

const BETA1 = 0.9, BETA2 = 0.95, EPSILON = 1e-8, RATE = 0.03, DECAY = 0.1;

/** The settings that the host computes for step `t`. */
function settingsOf(t: number, maxNorm: number): Float32Array<ArrayBuffer> {
  const values: Record<typeof ADAMW_SETTINGS[number], number> = {
    stepSize: RATE / (1 - BETA1 ** t),
    beta2: BETA2,
    oneMinusBeta1: 1 - BETA1,
    oneMinusBeta2: 1 - BETA2,
    epsilon: EPSILON,
    decayFactor: 1 - RATE * DECAY,
    rootCorrection2: Math.sqrt(1 - BETA2 ** t),
    maxNorm,
  };
  return Float32Array.from(ADAMW_SETTINGS, (name) => values[name]);
}

interface State {
  p: Float32Array;
  m: Float32Array;
  v: Float32Array;
}

async function step(gpu: Gpu, state: State, g: Float32Array, t: number, maxNorm: number, norm2: number) {
  const count = g.length, decayEnd = Math.floor(count / 12) * 4;
  const longer = (values: Float32Array) => new Float32Array([...values, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE]);
  const data = {
    p: longer(state.p),
    g: longer(g),
    m: longer(state.m),
    v: longer(state.v),
    settings: settingsOf(t, maxNorm),
    norm2: new Float32Array([norm2, 0, 0, 0]),
  };
  const got = await run(gpu, data, (buffers) => [adamw(gpu.profile, buffers, { count, decayEnd })]);
  for (const name of ["p", "g", "m", "v"] as const) {
    assert.ok(got[name].subarray(count).every((x) => x === OUTSIDE), `${name} was written too far`);
  }
  const cut = (values: Float32Array) => values.slice(0, count);
  return { p: cut(got.p), g: cut(got.g), m: cut(got.m), v: cut(got.v), decayEnd };
}

testOnProfiles("AdamW follows its formula over several steps, with and without clipping", async (gpu) => {
  for (const maxNorm of [0, 0.5, 1e6]) {
    for (const count of [4, 252, 1000]) {
      const { floats } = random(count);
      let state: State = { p: floats(count), m: new Float32Array(count), v: new Float32Array(count) };
      const want = { p: Float64Array.from(state.p), m: new Float64Array(count), v: new Float64Array(count) };
      for (let t = 1; t <= 5; t++) {
        const g = floats(count);
        const norm2 = g.reduce((sum, x) => sum + x * x, 0), norm = Math.sqrt(norm2);
        const after = await step(gpu, state, g, t, maxNorm, norm2);
        assert.ok(after.g.every((x) => x === 0), "the gradient is cleared");
        const clip = maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
        for (let i = 0; i < count; i++) {
          const x = g[i] * clip;
          want.m[i] = BETA1 * want.m[i] + (1 - BETA1) * x;
          want.v[i] = BETA2 * want.v[i] + (1 - BETA2) * x * x;
          if (i < after.decayEnd) want.p[i] *= 1 - RATE * DECAY;
          const first = want.m[i] / (1 - BETA1 ** t), second = want.v[i] / (1 - BETA2 ** t);
          want.p[i] -= RATE * first / (Math.sqrt(second) + EPSILON);
        }
        state = after;
        for (const name of ["p", "m", "v"] as const) {
          const error = relativeError(after[name], want[name]);
          assert.ok(error < 1e-6, `step ${t}, clipping ${maxNorm}: ${name} is off by ${error}`);
        }
      }
    }
  }
});

testOnProfiles("a norm that is not finite changes nothing but the gradient", async (gpu) => {
  const { floats } = random(1);
  const state = { p: floats(40), m: floats(40), v: floats(40).map(Math.abs) };
  for (const norm2 of [NaN, Infinity, -NaN]) {
    for (const maxNorm of [0, 1]) {
      const after = await step(gpu, state, floats(40), 3, maxNorm, norm2);
      for (const name of ["p", "m", "v"] as const) assert.deepEqual(after[name], state[name], name);
      assert.ok(after.g.every((x) => x === 0));
    }
  }
});
