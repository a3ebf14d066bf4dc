/**
 * SmolLM2-135M-Instruct out of its GGUF file: prefill, decoding and training through an adapter, the first two beside node-llama-cpp
 * on the same cores: `deno run -A bench/models.ts [--json file] [--rounds n]`.
 *
 * The file is that of `tests/smollm2.ts`; node-llama-cpp is fetched into .cache when the benchmark runs and is no dependency of
 * keel. llama.cpp multiplies 8-bit activations with the quantised weights; keel computes in float32.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openGpu } from "../src/gpu/device.ts";
import { loadFrozen } from "../src/model/load.ts";
import { makeAdapted } from "../src/model/peft.ts";
import type { Dtype } from "../src/model/frozen.ts";
import { packBatch } from "../src/data/batches.ts";
import { openGenerator } from "../src/sample/generate.ts";
import { planCache } from "../src/tape/plans.ts";
import { openLearner } from "../src/train/learner.ts";
import { recordSft, supervised } from "../src/train/sft.ts";
import { smollm2 } from "../tests/smollm2.ts";
import { benchArguments, median, report } from "./timing.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PEER = "node-llama-cpp@3.22.1";
const PROMPT = 256, NEW = 48;
const { json, rounds } = benchArguments(Deno.args);
const path = smollm2();
if (!path) {
  console.error("There is no SmolLM2: fetch it with tests/python/fetch_smollm2.sh .cache/smollm2.");
  Deno.exit(1);
}
const { add, save } = report();
const gpu = await openGpu(), workspace = { gpu };

const seconds = async (work: () => Promise<unknown>) => {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
};

/** Tokens per second of a prompt and of what follows it. */
async function generation(dtype: Dtype): Promise<{ prefill: number; decode: number }> {
  const generator = openGenerator(workspace, loadFrozen(gpu, path!, dtype));
  const ids = Array.from({ length: PROMPT }, (_, i) => 1000 + i * 37 % 40000);
  const generate = (prompt: number[], maxNewTokens: number) =>
    generator.generate([{ ids: prompt, samples: [0] }], {
      temperature: 0,
      topK: 0,
      topP: 1,
      stopIds: [],
      maxNewTokens,
      seed: 1,
      stream: 0,
    });
  const prefill: number[] = [], decode: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const first = await seconds(() => generate(ids, 1));
    const short = await seconds(() => generate(ids.slice(0, 8), 1));
    const long = await seconds(() => generate(ids.slice(0, 8), NEW + 1));
    if (round < 0) continue;
    prefill.push(PROMPT / first);
    decode.push(NEW / (long - short));
  }
  generator.close();
  return { prefill: median(prefill), decode: median(decode) };
}

/** Tokens per second of steps of SFT with LoRA of rank 16 on q_proj and v_proj, 2 texts of 256 tokens. */
async function training(dtype: Dtype): Promise<number> {
  const config = {
    r: 16,
    loraAlpha: 32,
    loraDropout: 0.05,
    useRslora: false,
    useDora: false,
    modulesToSave: [],
  };
  const learner = openLearner(gpu, makeAdapted(gpu, path!, config, { seed: 1, dtype }));
  const plan = planCache(
    workspace,
    (tape, tokens: number) =>
      recordSft(tape, learner.model, tokens, { gradientCheckpointing: false, lossType: "nll" }),
  );
  const ids = Array.from({ length: 256 }, (_, i) => 1000 + i * 37 % 40000), scored = ids.map((_, i) => i > 0);
  const examples = [{ ids, scored }, { ids, scored }], packed = packBatch(examples.map(({ ids }) => ids));
  const settings = {
    learningRate: 1e-4,
    adamBeta1: 0.9,
    adamBeta2: 0.999,
    adamEpsilon: 1e-8,
    weightDecay: 0,
    maxGradNorm: 1,
  };
  const step = async () => {
    const inputs = {
      ...supervised(packed, examples, 510),
      one: new Float32Array([1]),
      dropoutKey: Uint32Array.of(1, 1),
    };
    const { loss } = await plan(packed.tokens).run(inputs);
    await learner.step(settings, loss[0]);
  };
  const speeds: number[] = [];
  for (let round = -1; round < Math.min(rounds, 3); round++) {
    const time = await seconds(step);
    if (round >= 0) speeds.push(512 / time);
  }
  plan.destroy();
  learner.close();
  return median(speeds);
}

/** The peer's numbers; undefined where it cannot be had. */
async function peer(): Promise<{ prefill: number; decode: number } | undefined> {
  const folder = join(ROOT, ".cache/node-llama-cpp"),
    module = join(folder, "node_modules/node-llama-cpp/dist/index.js");
  const run = async (command: string, args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(command, { args, cwd: folder }).output();
    if (code !== 0) throw new Error(new TextDecoder().decode(stderr).slice(-500));
    return new TextDecoder().decode(stdout);
  };
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.stat(module).catch(() => run("npm", ["install", "--no-save", "--prefix", folder, PEER]));
    const script = fileURLToPath(new URL("peers/llama.mjs", import.meta.url));
    const threads = String(navigator.hardwareConcurrency);
    const out = await run("node", [
      script,
      module,
      path!,
      String(PROMPT),
      String(NEW),
      String(rounds),
      threads,
    ]);
    const { prefill, decode } = JSON.parse(out.trim().split("\n").at(-1)!);
    return { prefill: median(prefill), decode: median(decode) };
  } catch (error) {
    console.error(`${PEER} cannot be run: ${(error as Error).message}`);
  }
}

const llama = await peer();
for (const dtype of ["as-stored", "f32"] as const) {
  const ours = await generation(dtype);
  for (const what of ["prefill", "decode"] as const) {
    const theirs = llama?.[what] ?? NaN;
    add({
      name: `SmolLM2 Q4_1 ${what}, held ${dtype}`,
      unit: "tokens/s",
      keel: ours[what],
      peer: "node-llama-cpp",
      peer_value: theirs,
      ratio: ours[what] / theirs,
    });
  }
}
for (const dtype of ["as-stored", "f32"] as const) {
  add({
    name: `SmolLM2 LoRA step, held ${dtype}`,
    unit: "tokens/s",
    keel: await training(dtype),
    peer: "",
    peer_value: NaN,
    ratio: NaN,
  });
}
save(json);
gpu.close();
