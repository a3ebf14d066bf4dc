/**
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011) and named streams over it. The state of a stream is one integer, so a checkpoint holds it exactly.
 *
 * @module
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const TWO_32 = 4294967296;

/** High 32 bits of the 64-bit product of two u32. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16, bLow = b & 0xffff, bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + (middle >>> 16) + (carry >>> 16);
}

/**
 * One block of Philox4x32 with ten rounds: four independent u32 for a 64-bit key and a 128-bit counter, low words first.
 * Kernels that draw on the GPU compute the same function.
 */
export function philox(
  key: readonly [number, number],
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0), low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2), low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** 64-bit hash of a path, by chaining Philox blocks over its JSON text; `1` and `"1"` differ. */
function hashPath(path: readonly (number | string)[]): [number, number] {
  const bytes = new TextEncoder().encode(JSON.stringify(path));
  let hash: [number, number] = [bytes.length, 0];
  for (let at = 0; at < bytes.length; at += 4) {
    const word = (bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24) >>> 0;
    const [low, high] = philox(hash, [word, at, 0, 0]);
    hash = [low, high];
  }
  return hash;
}

/**
 * A sequence of random numbers with a name. The seed is the Philox key and the hashed path the upper half of the counter,
 * so streams of one seed never overlap. Made by {@linkcode randomStream}.
 */
export class RandomStream {
  /** How many u32 were drawn so far; setting it jumps there. Together with seed and path it is the whole state. */
  position = 0;
  #key: [number, number];
  #path: [number, number];
  #block: [number, number, number, number] = [0, 0, 0, 0];
  #blockIndex = -1;

  constructor(seed: number, path: readonly (number | string)[]) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new Error(`Got seed ${seed}. Expected an integer from 0 to 2^53 - 1.`);
    }
    this.#key = [seed >>> 0, Math.floor(seed / TWO_32)];
    this.#path = hashPath(path);
  }

  #next(): number {
    const index = Math.floor(this.position / 4);
    if (index !== this.#blockIndex) {
      this.#block = philox(this.#key, [index >>> 0, Math.floor(index / TWO_32), ...this.#path]);
      this.#blockIndex = index;
    }
    return this.#block[this.position++ % 4];
  }

  /** A multiple of 2^-32 in [0, 1). */
  uniform(): number {
    return this.#next() / TWO_32;
  }

  /** An integer in [0, n), without bias, for 1 <= n <= 2^32. */
  integer(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > TWO_32) {
      throw new Error(`Cannot draw an integer below ${n}. Expected a whole number from 1 to 2^32.`);
    }
    const limit = TWO_32 - TWO_32 % n;
    let drawn = this.#next();
    while (drawn >= limit) drawn = this.#next();
    return drawn % n;
  }

  /** One item, each with the same chance. */
  choice<T>(items: readonly T[]): T {
    return items[this.integer(items.length)];
  }

  /** One item with chance proportional to its weight; weights are not negative and not all zero. */
  weighted<T>(items: readonly T[], weights: readonly number[]): T {
    let rest = this.uniform() * weights.reduce((sum, weight) => sum + weight, 0);
    let last = 0;
    for (let i = 0; i < items.length; i++) {
      if (weights[i] <= 0) continue;
      last = i;
      if (rest < weights[i]) break;
      rest -= weights[i];
    }
    return items[last];
  }

  /** A standard normal number (Box and Muller 1958); the second one of the pair is not kept, so that `position` is the state. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A random permutation of 0 … n - 1 (Fisher and Yates). */
  shuffle(n: number): Uint32Array<ArrayBuffer> {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

/**
 * A stream named by a path, e.g. `randomStream(seed, "rollout", step)`. Equal seed and path give equal numbers; any
 * difference gives an unrelated stream.
 */
export function randomStream(seed: number, ...path: (number | string)[]): RandomStream {
  return new RandomStream(seed, path);
}
