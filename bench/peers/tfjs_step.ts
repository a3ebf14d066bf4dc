/** TensorFlow.js with its WebGPU back end as a worker of `bench/steps.ts`: variableGrads, and AdamW written by hand. */
// deno-lint-ignore-file no-explicit-any
import { ADAM, CONFIGS, gpt2Batch, gpt2Weights, norm } from "../gpt2_data.ts";
import { serve } from "./workers.ts";

// In variables, so that the type checker does not download them.
const TFJS = "npm:@tensorflow/tfjs@4.22.0";
const TFJS_WEBGPU = "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";
const tf: any = await import(TFJS);
await import(TFJS_WEBGPU);

const c = CONFIGS[Deno.args[0] as keyof typeof CONFIGS];
const { rows, time, width, heads, vocab, layers } = c, tokens = rows * time, headDim = width / heads;
await tf.setBackend("webgpu");
await tf.ready();

const names: string[] = [], p: any = {}, firsts: any = {}, seconds: any = {};
for (const [name, { shape, data }] of gpt2Weights(c)) {
  names.push(name);
  p[name] = tf.variable(tf.tensor(data, shape), true, name);
  firsts[name] = tf.variable(tf.zeros(shape), false);
  seconds[name] = tf.variable(tf.zeros(shape), false);
}
const { ids, next } = gpt2Batch(c);
const x = tf.tensor1d(ids, "int32"), y = tf.oneHot(tf.tensor1d(next, "int32"), vocab).toFloat();
const mask = tf.tidy(() => tf.sub(1, tf.linalg.bandPart(tf.ones([time, time]), -1, 0)).mul(-1e9));

function normed(x: any, name: string) {
  const centred = x.sub(x.mean(-1, true));
  return centred.div(centred.square().mean(-1, true).add(1e-5).sqrt()).mul(p[`${name}.g`]).add(
    p[`${name}.b`],
  );
}
const map = (x: any, name: string) => tf.matMul(x, p[`${name}.w`]).add(p[`${name}.b`]);
const gelu = (x: any) => {
  const inner = x.add(x.square().mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
  return x.mul(0.5).mul(inner.tanh().add(1));
};
const byHead = (x: any) => x.reshape([rows, time, heads, headDim]).transpose([0, 2, 1, 3]);

function lossOf(): any {
  let h = tf.gather(p.wte, x).reshape([rows, time, width]).add(p.wpe).reshape([tokens, width]);
  for (let layer = 0; layer < layers; layer++) {
    const name = `h${layer}`;
    const [q, k, v] = tf.split(map(normed(h, `${name}.ln1`), `${name}.qkv`), 3, -1).map(byHead);
    const weights = tf.softmax(tf.matMul(q, k, false, true).mul(1 / Math.sqrt(headDim)).add(mask));
    const attended = tf.matMul(weights, v).transpose([0, 2, 1, 3]).reshape([tokens, width]);
    h = h.add(map(attended, `${name}.o`));
    h = h.add(map(gelu(map(normed(h, `${name}.ln2`), `${name}.fc`)), `${name}.proj`));
  }
  return tf.losses.softmaxCrossEntropy(y, tf.matMul(normed(h, "lnf"), p.wte, false, true));
}

const variables = names.map((name) => p[name]);
let steps = 0;
await serve({
  async step() {
    steps++;
    const loss = tf.tidy(() => {
      const { value, grads } = tf.variableGrads(lossOf, variables);
      const first = c.learningRate / (1 - ADAM.beta1 ** steps), second = 1 / (1 - ADAM.beta2 ** steps);
      for (const name of names) {
        const g = grads[name];
        const m = firsts[name].mul(ADAM.beta1).add(g.mul(1 - ADAM.beta1));
        const s = seconds[name].mul(ADAM.beta2).add(g.square().mul(1 - ADAM.beta2));
        const update = m.mul(first).div(s.mul(second).sqrt().add(ADAM.epsilon));
        p[name].assign(p[name].mul(1 - c.learningRate * ADAM.decay).sub(update));
        firsts[name].assign(m);
        seconds[name].assign(s);
      }
      return value;
    });
    const [value] = await loss.data();
    loss.dispose();
    return value;
  },
  async gradients() {
    const { value, grads } = tf.variableGrads(lossOf, variables);
    value.dispose();
    const norms: Record<string, number> = {};
    for (const name of names) {
      norms[name] = norm(await grads[name].data());
      grads[name].dispose();
    }
    return norms;
  },
});
