/**
 * Matrix products of jax-js and TensorFlow.js on the same adapter, the peers of the kernel benchmark.
 *
 * They are fetched when the benchmark runs and are no dependency of keel. Both are awaited once per batch of `count` products:
 * an awaited read-back costs 10 ms in Deno, which is measured on an empty batch and subtracted.
 */
import type { Trans } from "../kernels/matmul.ts";

/** A product that is ready to be timed. */
export interface PeerProduct {
  /** Runs `count` products and waits for all. */
  run(count: number): Promise<void>;
  /** C, row-major. */
  value(): Promise<ArrayLike<number>>;
}

export interface Peer {
  name: string;
  /** Milliseconds of waiting for a batch that does next to nothing. */
  overhead: number;
  product(trans: Trans, m: number, n: number, k: number, a: Float32Array, b: Float32Array): PeerProduct;
}

// Packages are named in variables so that the type checker does not download them.
const JAX = "npm:@jax-js/jax@0.1.25";
const TFJS = "npm:@tensorflow/tfjs@4.22.0";
const TFJS_WEBGPU = "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";

/** The peers that can be loaded; the others are named on stderr. */
export async function loadPeers(): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (const load of [loadJax, loadTfjs]) {
    try {
      const peer = await load();
      peer.overhead = await overheadOf(peer);
      peers.push(peer);
    } catch (error) {
      console.error(`${load.name.slice(4)} cannot be loaded: ${(error as Error).message}`);
    }
  }
  return peers;
}

async function overheadOf(peer: Peer): Promise<number> {
  const tiny = peer.product("nn", 4, 4, 4, new Float32Array(16), new Float32Array(16));
  const samples: number[] = [];
  for (let i = 0; i < 12; i++) {
    const started = performance.now();
    await tiny.run(1);
    samples.push(performance.now() - started);
  }
  return samples.sort((a, b) => a - b)[4];
}

async function loadJax(): Promise<Peer> {
  const jax = await import(JAX);
  await jax.init("webgpu");
  jax.defaultDevice("webgpu");
  const np = jax.numpy;
  return {
    name: "jax-js",
    overhead: 0,
    product(trans, m, n, k, a, b) {
      const x = np.array(a, { shape: trans === "tn" ? [k, m] : [m, k] });
      const y = np.array(b, { shape: trans === "nt" ? [n, k] : [k, n] });
      // deno-lint-ignore no-explicit-any
      const multiply = jax.jit((x: any, y: any) =>
        np.matmul(trans === "tn" ? np.transpose(x) : x, trans === "nt" ? np.transpose(y) : y)
      );
      return {
        async run(count) {
          // Results are lazy: one that is dropped without being awaited is never computed.
          const results = Array.from({ length: count }, () => multiply(x.ref, y.ref));
          await Promise.all(results.map((result) => result.blockUntilReady()));
          results.forEach((result) => result.dispose());
        },
        value: () => multiply(x.ref, y.ref).data(),
      };
    },
  };
}

async function loadTfjs(): Promise<Peer> {
  const tf = await import(TFJS);
  await import(TFJS_WEBGPU);
  await tf.setBackend("webgpu");
  await tf.ready();
  return {
    name: "tfjs",
    overhead: 0,
    product(trans, m, n, k, a, b) {
      const x = tf.tensor2d(a, trans === "tn" ? [k, m] : [m, k]);
      const y = tf.tensor2d(b, trans === "nt" ? [n, k] : [k, n]);
      const multiply = () => tf.matMul(x, y, trans === "tn", trans === "nt");
      return {
        async run(count) {
          let last = multiply();
          for (let i = 1; i < count; i++) {
            last.dispose();
            last = multiply();
          }
          const corner = tf.slice(last, [0, 0], [1, 1]);
          await corner.data();
          corner.dispose();
          last.dispose();
        },
        async value() {
          const result = multiply();
          const values = await result.data();
          result.dispose();
          return values;
        },
      };
    },
  };
}
