/**
 * Whole training steps and greedy decoding of small GPT-2s: keel beside PyTorch, jax-js and TensorFlow.js on this machine.
 *
 *     deno run --allow-all bench/steps.ts [filter] [--json file] [--rounds n]
 *
 * `filter` is a pattern over the names `train A`, `train B` and `decode D`. Every library starts from the same weights and
 * batch; before anything is timed, its first loss and every gradient's norm must equal PyTorch's in `steps_reference.json`.
 * KEEL_PYTHON names the Python that has torch and transformers. Steps take turns; only ratios of one run mean anything.
 */
import { type Gpu, openGpu } from "../src/gpu/device.ts";
import { openGpt2Training } from "./gpt2.ts";
import { CONFIGS, DECODE, floatingPointOperations } from "./gpt2_data.ts";
import { openGpt2Decoding } from "./gpt2_decode.ts";
import { type Peer, PEERS, type Worker } from "./peers/workers.ts";
import { benchArguments, interleave, median, report, type Row, type Variant } from "./timing.ts";

const reference = JSON.parse(await Deno.readTextFile(new URL("steps_reference.json", import.meta.url)));

interface Expected {
  loss: number;
  gradientNorms: Record<string, number>;
}

/** Largest relative difference allowed. PyTorch itself in f32 is 9e-5 away from its float64 in one gradient of B. */
const TOLERANCE = { keel: 1e-5, peer: 2e-4 };

/** Refuses to time a library that computes something else. */
function check(
  name: string,
  want: Expected,
  loss: number,
  norms: Record<string, number>,
  tolerance: number,
): void {
  const differences = Object.entries(want.gradientNorms).map(([key, norm]) =>
    Math.abs(norms[key] / norm - 1)
  );
  const error = Math.max(Math.abs(loss / want.loss - 1), ...differences);
  if (!(error < tolerance)) {
    throw new Error(`${name} differs from PyTorch by a relative ${error} in its loss or a gradient.`);
  }
}

/** A peer that answered rightly, or why it cannot be timed. */
type Started = { peer: Peer; worker: Worker } | { peer: Peer; missing: "not installed" | "failed" };

async function open(
  peer: Peer,
  config: string,
  prepare: (worker: Worker) => Promise<void>,
): Promise<Started> {
  let worker: Worker | undefined;
  try {
    worker = await peer.start(config);
    await prepare(worker);
    return { peer, worker };
  } catch (error) {
    const missing = worker ? "failed" : "not installed";
    console.error(`${peer.name}: ${missing}. ${(error as Error).message}`);
    worker?.close();
    return { peer, missing };
  }
}

/** Times keel beside the peers and reports one row for each. `value` turns milliseconds into the row's unit. */
async function compare(
  add: (row: Row) => void,
  name: string,
  unit: string,
  rounds: number,
  keel: () => Promise<unknown>,
  peers: Started[],
  command: "step" | "decode",
  value: (milliseconds: number) => number,
): Promise<void> {
  // The first, unrecorded sample says how long one run takes. Later ones repeat the quick libraries until they last a quarter
  // of the slowest one's time, so that a neighbour's burst of work weighs alike on all.
  const once = new Map<string, number>();
  const variant = (name: string, run: () => Promise<number>): Variant => ({
    name,
    async sample() {
      const own = once.get(name);
      const repeats = own === undefined ? 1 : Math.ceil(Math.max(...once.values()) / 4 / own);
      let total = 0;
      for (let i = 0; i < repeats; i++) total += await run();
      once.set(name, own ?? total);
      return total / repeats;
    },
  });
  const variants = [variant("keel", async () => {
    const started = performance.now();
    await keel();
    return performance.now() - started;
  })];
  for (const started of peers) {
    if (!("worker" in started)) continue;
    variants.push(variant(started.peer.name, async () => {
      const answer = await started.worker.ask(command);
      if (answer.error) throw new Error(`${started.peer.name} stopped: ${answer.error}`);
      return answer.milliseconds!;
    }));
  }
  const times = await interleave(variants, rounds);
  const ours = times.get("keel")!;
  for (const started of peers) {
    const theirs = times.get(started.peer.name);
    if ("worker" in started) started.worker.close();
    add({
      name,
      unit,
      keel: value(ours),
      peer: "missing" in started ? `${started.peer.name} (${started.missing})` : started.peer.name,
      peer_value: theirs === undefined ? NaN : value(theirs),
      ratio: theirs === undefined ? NaN : theirs / ours,
    });
  }
}

async function train(gpu: Gpu, add: (row: Row) => void, config: "A" | "B", rounds: number): Promise<void> {
  const want = reference[config] as Expected;
  const training = openGpt2Training(gpu, CONFIGS[config]);
  const norms = Object.fromEntries(await training.gradientNorms());
  check("keel", want, await training.step(), norms, TOLERANCE.keel);
  // TensorFlow.js needs most of a minute and 3 GB for a step of B.
  const names = config === "A" ? ["torch", "jax", "tfjs"] as const : ["torch", "jax"] as const;
  const peers: Started[] = [];
  for (const name of names) {
    peers.push(
      await open(PEERS[name], config, async (worker) => {
        const gradients = await worker.ask("gradients"), first = await worker.ask("step");
        const failed = gradients.error ?? first.error;
        if (failed) throw new Error(failed);
        check(PEERS[name].name, want, first.loss!, gradients.norms!, TOLERANCE.peer);
      }),
    );
  }
  await compare(add, `train ${config}`, "ms/step", rounds, training.step, peers, "step", (ms) => ms);
  const steps: number[] = [];
  for (let i = 0; i < 5; i++) {
    const started = performance.now();
    await training.step();
    steps.push(performance.now() - started);
  }
  const speed = floatingPointOperations(CONFIGS[config]) / median(steps) / 1e6;
  console.log(`train ${config}: keel computes ${speed.toFixed(1)} GFLOP/s when it runs alone`);
}

async function decode(gpu: Gpu, add: (row: Row) => void, rounds: number): Promise<void> {
  const run = openGpt2Decoding(gpu, CONFIGS.D);
  const tokens = await run();
  const peers: Started[] = [];
  for (const peer of [PEERS.torch, PEERS.jax]) {
    peers.push(
      await open(peer, "D", async (worker) => {
        const answer = await worker.ask("decode");
        if (answer.error) throw new Error(answer.error);
        const equal = answer.tokens!.filter((token, i) => token === tokens[i]).length;
        if (equal !== tokens.length) {
          throw new Error(
            `${peer.name} decodes ${tokens.length - equal} of ${tokens.length} tokens otherwise.`,
          );
        }
      }),
    );
  }
  const count = DECODE.rows * DECODE.generated;
  await compare(add, "decode D", "tokens/s", rounds, run, peers, "decode", (ms) => count / ms * 1e3);
}

if (import.meta.main) {
  const { filter, json, rounds } = benchArguments(Deno.args);
  const { add, save } = report();
  const gpu = await openGpu();
  console.log(`${gpu.info.name}, ${gpu.profile.kind} profile`);
  if (filter.test("train A")) await train(gpu, add, "A", rounds);
  if (filter.test("train B")) await train(gpu, add, "B", Math.min(rounds, 3));
  if (filter.test("decode D")) await decode(gpu, add, rounds);
  save(json);
  gpu.close();
}
