/** jax-js as a worker of `bench/steps.ts`: one jit of value, gradients and AdamW, and greedy decoding with a static cache. */
// deno-lint-ignore-file no-explicit-any
import { ADAM, CONFIGS, DECODE, gpt2Batch, gpt2Prompts, gpt2Weights, norm } from "../gpt2_data.ts";
import { serve } from "./workers.ts";

// In a variable, so that the type checker does not download it.
const JAX = "npm:@jax-js/jax@0.1.25";
const { blockUntilReady, defaultDevice, init, jit, nn, numpy: np, valueAndGrad } = await import(JAX);

type Arrays = Record<string, any>;

const c = CONFIGS[Deno.args[0] as keyof typeof CONFIGS];
const { rows, time, width, heads, vocab, layers } = c, headDim = width / heads;
await init("webgpu");
defaultDevice("webgpu");

const names: string[] = [];
let values: Arrays = {}, firsts: Arrays = {}, seconds: Arrays = {};
for (const [name, { shape, data }] of gpt2Weights(c)) {
  names.push(name);
  values[name] = np.array(data).reshape(shape);
  firsts[name] = np.zeros(shape);
  seconds[name] = np.zeros(shape);
}
const { ids, next } = gpt2Batch(c);
const x = np.array(ids, { dtype: np.int32 }).reshape([rows, time]);
const y = np.array(next, { dtype: np.int32 });

// Arrays are consumed by their last use; `.ref` keeps one for another.
const shared = (all: Arrays): Arrays => Object.fromEntries(names.map((name) => [name, all[name].ref]));

function layerNorm(x: any, gain: any, bias: any) {
  const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
  const variance = np.mean(np.square(centred.ref), -1, { keepdims: true });
  return centred.div(np.sqrt(variance.add(1e-5))).mul(gain).add(bias);
}

/** The blocks and the last norm; `attend` gets a layer's queries, keys and values, [rows, time, heads, headDim]. */
function blocks(
  p: Arrays,
  x: any,
  size: number[],
  attend: (layer: number, q: any, k: any, v: any) => any,
): any {
  const map = (x: any, name: string) => np.matmul(x, p[`${name}.w`]).add(p[`${name}.b`]);
  const normed = (x: any, name: string) => layerNorm(x, p[`${name}.g`], p[`${name}.b`]);
  for (let layer = 0; layer < layers; layer++) {
    const h = `h${layer}`;
    const [q, k, v] = np.split(map(normed(x.ref, `${h}.ln1`), `${h}.qkv`), 3, -1)
      .map((t: any) => t.reshape([...size, heads, headDim]));
    x = x.add(map(attend(layer, q, k, v).reshape([...size, width]), `${h}.o`));
    x = x.add(map(nn.gelu(map(normed(x.ref, `${h}.ln2`), `${h}.fc`)), `${h}.proj`));
  }
  return x;
}

function lossOf(p: Arrays, x: any, y: any) {
  // The gradient of np.take is a scatter that Deno's WGSL compiler refuses, so the rows are picked by a product.
  const start = np.matmul(nn.oneHot(x, vocab), p.wte.ref).add(p.wpe);
  const hidden = blocks(
    p,
    start,
    [rows, time],
    (_, q, k, v) => nn.dotProductAttention(q, k, v, { isCausal: true }),
  );
  const last = layerNorm(hidden, p["lnf.g"], p["lnf.b"]).reshape([rows * time, width]);
  const logits = np.matmul(last, np.transpose(p.wte));
  const lse = nn.logsumexp(logits.ref, -1);
  return np.mean(lse.sub(np.sum(logits.mul(nn.oneHot(y, vocab)), -1)));
}

const valueAndGradient = valueAndGrad(lossOf);
const train = jit((p: Arrays, m: Arrays, s: Arrays, corrections: any, x: any, y: any) => {
  const [loss, g] = valueAndGradient(shared(p), x, y);
  const p2: Arrays = {}, m2: Arrays = {}, s2: Arrays = {};
  const [first, second] = np.split(corrections, 2, 0); // lr / (1 − β1ᵗ) and 1 / (1 − β2ᵗ)
  for (const name of names) {
    m2[name] = m[name].mul(ADAM.beta1).add(g[name].ref.mul(1 - ADAM.beta1));
    s2[name] = s[name].mul(ADAM.beta2).add(np.square(g[name]).mul(1 - ADAM.beta2));
    const root = np.sqrt(s2[name].ref.mul(second.ref)).add(ADAM.epsilon);
    p2[name] = p[name].mul(1 - c.learningRate * ADAM.decay).sub(m2[name].ref.mul(first.ref).div(root));
  }
  first.dispose();
  second.dispose();
  return [p2, m2, s2, loss];
});

const slots = DECODE.prompt + DECODE.generated;
const logits = (p: Arrays, x: any, position: number) =>
  np.argmax(np.matmul(layerNorm(x.slice([], position), p["lnf.g"], p["lnf.b"]), np.transpose(p.wte)), -1);
const prefill = jit((p: Arrays, tokens: any) => {
  const keys: any[] = [], cached: any[] = [];
  const pad = (t: any) => np.pad(t, [[0, 0], [0, DECODE.generated], [0, 0], [0, 0]]);
  const start = np.take(p.wte.ref, tokens, 0).add(p.wpe.slice([0, DECODE.prompt]));
  const hidden = blocks(p, start, [DECODE.rows, DECODE.prompt], (layer, q, k, v) => {
    keys[layer] = pad(k.ref);
    cached[layer] = pad(v.ref);
    return nn.dotProductAttention(q, k, v, { isCausal: true });
  });
  return [logits(p, hidden, DECODE.prompt - 1), keys, cached];
});
const decodeOne = jit((p: Arrays, tokens: any, position: any, keys: any[], cached: any[]) => {
  const all = np.arange(slots);
  const here = np.equal(all.ref, position.ref).reshape([1, slots, 1, 1]);
  const seen = np.lessEqual(all, position.ref).reshape([1, 1, 1, slots]);
  const start = np.take(p.wte.ref, tokens, 0).reshape([DECODE.rows, 1, width]).add(
    np.take(p.wpe, position, 0),
  );
  const keys2: any[] = [], cached2: any[] = [];
  const hidden = blocks(p, start, [DECODE.rows, 1], (layer, q, k, v) => {
    keys2[layer] = np.where(here.ref, k, keys[layer]);
    cached2[layer] = np.where(here.ref, v, cached[layer]);
    return nn.dotProductAttention(q, keys2[layer].ref, cached2[layer].ref, { mask: seen.ref });
  });
  here.dispose();
  seen.dispose();
  return [logits(p, hidden, 0), keys2, cached2];
});

let steps = 0;
await blockUntilReady([values, firsts, seconds]);
await serve({
  async step() {
    steps++;
    const corrections = np.array(
      new Float32Array([c.learningRate / (1 - ADAM.beta1 ** steps), 1 / (1 - ADAM.beta2 ** steps)]),
    );
    let loss: any;
    [values, firsts, seconds, loss] = train(values, firsts, seconds, corrections, x.ref, y.ref);
    return (await loss.data())[0]; // it is one program: reading the loss runs all of it
  },
  async gradients() {
    const [loss, gradients] = jit(valueAndGradient)(shared(values), x.ref, y.ref);
    loss.dispose();
    const norms: Record<string, number> = {};
    for (const name of names) norms[name] = norm(await gradients[name].data());
    return norms;
  },
  async decode() {
    const prompts = np.array(gpt2Prompts(c), { dtype: np.int32 }).reshape([DECODE.rows, DECODE.prompt]);
    let [tokens, keys, cached] = prefill(shared(values), prompts);
    const out = [tokens.ref];
    for (let i = 1; i < DECODE.generated; i++) {
      const position = np.array(new Int32Array([DECODE.prompt + i - 1]), { dtype: np.int32 });
      [tokens, keys, cached] = decodeOne(shared(values), tokens, position, keys, cached);
      out.push(tokens.ref);
    }
    for (const array of [tokens, ...keys, ...cached]) array.dispose();
    return await np.stack(out, 1).data();
  },
});
