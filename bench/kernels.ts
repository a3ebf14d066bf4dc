/**
 * The hot kernels beside their peers: `deno run -A bench/kernels.ts [filter] [--json file] [--rounds n]`.
 *
 * Matmul runs beside jax-js and TensorFlow.js on the same adapter, and beside the adapter's ceiling: our own kernel without its
 * loads. Attention and log-probabilities run beside the naive kernels. Every result is compared with float64 before it is timed.
 */
import { attention } from "../kernels/attention.ts";
import { attentionBackward } from "../kernels/attention_backward.ts";
import { type Launch, padded, rowStride } from "../kernels/kernel.ts";
import { logProbBackward, logProbForward } from "../kernels/log_prob.ts";
import { matmul, type Trans } from "../kernels/matmul.ts";
import { allocate, readFloats, upload } from "../src/gpu/buffers.ts";
import { type GpuWindow, openGpu } from "../src/gpu/device.ts";
import { prepare, submit } from "../src/gpu/run.ts";
import { naiveAttention, naiveLogProb } from "./naive.ts";
import { loadPeers } from "./peers.ts";
import { attentionReference, floats, logProbReference, productReference } from "./references.ts";
import { benchArguments, interleave, mustEqual, report, type Variant } from "./timing.ts";

const { filter, json, rounds } = benchArguments(Deno.args);
const gpu = await openGpu();
const { rows, add, save } = report();

/** Operations in one sample of about `milliseconds`, from one run. */
async function repeats(run: (count: number) => Promise<void>, milliseconds: number): Promise<number> {
  await run(1);
  const started = performance.now();
  await run(2);
  return Math.max(1, Math.min(200, Math.round(2 * milliseconds / (performance.now() - started))));
}

/** A variant of ours: the launches are prepared once and submitted as one batch per sample. */
async function ours(name: string, launches: Launch<GpuWindow>[]): Promise<Variant> {
  const program = prepare(gpu, launches);
  const run = async (count: number) => {
    submit(gpu, program, count);
    await gpu.readback.wait();
  };
  const count = await repeats(run, 30);
  return {
    name,
    async sample() {
      const started = performance.now();
      await run(count);
      return (performance.now() - started) / count;
    },
  };
}

/** A row-major matrix of `columns` columns as keel stores it. */
function asStored<T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
  values: T,
  columns: number,
): T {
  const rows = values.length / columns, stride = rowStride(columns);
  const out = new (values.constructor as new (length: number) => T)(rows * stride);
  for (let r = 0; r < rows; r++) out.set(values.subarray(r * columns, (r + 1) * columns), r * stride);
  return out;
}

const MATMULS: [name: string, trans: Trans, m: number, n: number, k: number][] = [
  ...([512, 1024].flatMap((size) =>
    (["nn", "nt", "tn"] as const).map((
      trans,
    ): typeof MATMULS[number] => [`matmul ${size}³ ${trans}`, trans, size, size, size])
  )),
  ["thin [2048×64]·[64×172]", "nn", 2048, 172, 64],
  ["thin gradient of the input", "nt", 2048, 64, 172],
  ["thin gradient of the weight", "tn", 64, 172, 2048],
  ["decode [16×576]·[1536×576]ᵀ", "nt", 16, 1536, 576],
];

async function benchMatmul(): Promise<void> {
  const chosen = MATMULS.filter(([name]) => filter.test(name));
  const peers = chosen.length ? await loadPeers() : [];
  for (const [name, trans, m, n, k] of chosen) {
    const a = floats(m * k), b = floats(n * k);
    const want = productReference(trans, m, n, k, a, b);
    const buffers = {
      a: upload(gpu, asStored(a, trans === "tn" ? m : k)),
      b: upload(gpu, asStored(b, trans === "nt" ? k : n)),
      c: allocate(gpu, 4 * m * rowStride(n)),
    };
    const launch = matmul(gpu.profile, buffers, { trans, m, n, k });
    const variants = [await ours("keel", [launch])];
    mustEqual(name, await readFloats(gpu, buffers.c), asStored(want, n));
    if (gpu.profile.kind === "cpu") variants.push(await ours("loads-free ceiling", [withoutLoads(launch)]));
    for (const peer of peers) {
      const product = peer.product(trans, m, n, k, a, b);
      mustEqual(`${peer.name}'s ${name}`, await product.value(), want);
      const count = await repeats((c) => product.run(c), 300);
      variants.push({
        name: peer.name,
        async sample() {
          const started = performance.now();
          await product.run(count);
          return (performance.now() - started - peer.overhead) / count;
        },
      });
    }
    const times = await interleave(variants, rounds);
    const speed = (variant: string) => 2 * m * n * k / times.get(variant)! / 1e6;
    for (const { name: peer } of variants.slice(1)) {
      add({
        name,
        unit: "GFLOP/s",
        keel: speed("keel"),
        peer,
        peer_value: speed(peer),
        ratio: speed("keel") / speed(peer),
      });
    }
  }
}

/**
 * The kernel with the loads of A and B moved before its loop: what its multiply-adds cost. A multiple of the step is added to
 * the operands, or the compiler would move the products out of the loop too.
 */
function withoutLoads(launch: Launch<GpuWindow>): Launch<GpuWindow> {
  const before: string[] = [];
  const code = launch.kernel.code
    .replace(/let ([ab]\d(?:_\d)?) = (?:load_)?([ab])[[(][^;]*;/g, (_, name, matrix) => {
      before.push(`let ${name}_ = ${matrix}[lane + ${before.length}u];`);
      return `let ${name} = ${name}_ + vec4f(f32(step));`;
    })
    .replace("for (var step", `${before.join("\n")}\nfor (var step`);
  return {
    ...launch,
    kernel: { ...launch.kernel, name: `${launch.kernel.name}_ceiling`, code, wideCode: undefined },
  };
}

async function benchAttention(): Promise<void> {
  for (const headDim of [16, 64]) {
    const tokens = 512, heads = 8, ds = padded(headDim);
    const name = `attention ${tokens}×${headDim}`;
    if (!filter.test(name)) continue;
    const shape = { tokens, heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim) };
    const qkv = floats(tokens * 3 * heads * ds).map((x) => 2 * x), dout = floats(tokens * heads * ds);
    const size = 4 * tokens * heads * ds;
    const buffers = {
      qkv: upload(gpu, qkv),
      starts: upload(gpu, new Uint32Array(tokens)),
      ends: upload(gpu, new Uint32Array(tokens).fill(tokens)),
      out: allocate(gpu, size),
      lse: allocate(gpu, 4 * heads * tokens),
      dout: upload(gpu, dout),
      delta: allocate(gpu, 4 * heads * tokens),
      dqkv: allocate(gpu, 3 * size),
    };
    const { starts, out, lse } = buffers;
    const want = attentionReference(qkv, dout, shape);
    const naive = await ours("naive", [naiveAttention({ qkv: buffers.qkv, out, lse }, shape)]);
    mustEqual(`naive ${name}`, await readFloats(gpu, out), want.out);
    const forward = await ours("keel", [
      attention(gpu.profile, { qkv: buffers.qkv, starts, out, lse }, shape),
    ]);
    mustEqual(name, await readFloats(gpu, out), want.out);
    const backward = await ours("backward", attentionBackward(gpu.profile, buffers, shape));
    mustEqual(`${name} backward`, await readFloats(gpu, buffers.dqkv), want.dqkv);
    const times = await interleave([forward, naive, backward], rounds);
    const pairs = heads * tokens * (tokens + 1) / 2 * headDim;
    const forwardSpeed = 4 * pairs / times.get("keel")! / 1e6,
      naiveSpeed = 4 * pairs / times.get("naive")! / 1e6;
    add({
      name: `${name} forward`,
      unit: "useful GFLOP/s",
      keel: forwardSpeed,
      peer: "naive",
      peer_value: naiveSpeed,
      ratio: forwardSpeed / naiveSpeed,
    });
    // Two products forward; backward seven: scores and weights twice, then dq, dk and dv.
    const backwardSpeed = 14 * pairs / times.get("backward")! / 1e6;
    add({
      name: `${name} backward`,
      unit: "useful GFLOP/s",
      keel: backwardSpeed,
      peer: "own forward",
      peer_value: forwardSpeed,
      ratio: backwardSpeed / forwardSpeed,
    });
  }
}

async function benchLogProb(): Promise<void> {
  for (const [tokens, vocab] of [[4096, 512], [512, 8192]]) {
    const name = `log_prob ${tokens}×${vocab}`;
    if (!filter.test(name)) continue;
    const logits = floats(tokens * vocab).map((x) => 8 * x);
    const targets = Uint32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocab);
    const want = logProbReference(logits, targets, tokens, vocab);
    const vector = () => allocate(gpu, 4 * tokens);
    const buffers = {
      logits: upload(gpu, asStored(logits, vocab)),
      targets: upload(gpu, targets),
      logprob: vector(),
      entropy: vector(),
      lse: vector(),
    };
    const shape = { rows: tokens, vocab, first: 0, invTemperature: 1 };
    const naive = await ours("naive", [naiveLogProb(buffers, shape)]);
    mustEqual(`naive ${name}`, await readFloats(gpu, buffers.logprob), want);
    const forward = await ours("keel", [logProbForward(gpu.profile, buffers, shape)]);
    mustEqual(name, await readFloats(gpu, buffers.logprob), want);
    const { targets: t, lse, entropy } = buffers;
    const gradient = {
      logits: upload(gpu, asStored(logits, vocab)),
      targets: t,
      lse,
      entropy,
      dlogprob: vector(),
      dentropy: vector(),
    };
    const backward = await ours("backward", [logProbBackward(gpu.profile, gradient, shape)]);
    const times = await interleave([forward, naive, backward], rounds);
    const perLogit = (variant: string) => times.get(variant)! * 1e6 / (tokens * vocab);
    for (
      const [suffix, mine, peer, other] of [["forward", "keel", "naive", "naive"], [
        "backward",
        "backward",
        "own forward",
        "keel",
      ]]
    ) {
      add({
        name: `${name} ${suffix}`,
        unit: "ns per logit",
        keel: perLogit(mine),
        peer,
        peer_value: perLogit(other),
        ratio: perLogit(other) / perLogit(mine),
      });
    }
  }
}

console.log(`${gpu.info.name}, ${gpu.profile.kind} profile, medians of ${rounds} interleaved rounds\n`);
await benchMatmul();
await benchAttention();
await benchLogProb();
save(json);
Deno.exit(rows.length === 0 ? 1 : 0);
