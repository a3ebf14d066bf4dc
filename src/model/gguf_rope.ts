/**
 * Llama 3's stretching of rotary frequencies as GGUF stores it: not its parameters but a divisor for each frequency, in the tensor
 * `rope_freqs.weight`.
 *
 * @module
 */

/** The tensor's name. */
export const ROPE_FACTORS = "rope_freqs.weight";

/** The parameters under the names of Hugging Face's `rope_parameters`. */
export interface Llama3Rope {
  /** How much the low frequencies are stretched. */
  factor: number;
  /** Turns over the original context below which a frequency is stretched in full. */
  low_freq_factor: number;
  /** Turns above which it is left alone. */
  high_freq_factor: number;
  /** Tokens of the context before stretching. */
  original_max_position_embeddings: number;
}

/** Turns over one token of each frequency of a head. */
function turns(theta: number, headDim: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => theta ** (-2 * i / headDim) / (2 * Math.PI));
}

/** What each frequency is divided by. */
export function ropeFactors(theta: number, headDim: number, rope: Llama3Rope): Float32Array<ArrayBuffer> {
  const { factor, low_freq_factor: low, high_freq_factor: high } = rope;
  return Float32Array.from(turns(theta, headDim), (turn) => {
    const inContext = turn * rope.original_max_position_embeddings;
    if (inContext > high) return 1;
    if (inContext < low) return factor;
    const smooth = (inContext - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Stored factors were computed in float32 by others. */
const TOLERANCE = 1e-4;

/**
 * Parameters that give the stored factors, or undefined when there are none. Only the quotients of the two turns and the context matter,
 * so that those of Meta's models (1, 4 and `context`, else 8192) are tried before they are solved for.
 */
export function fitRopeFactors(
  factors: Float32Array,
  theta: number,
  headDim: number,
  context?: number,
): Llama3Rope | undefined {
  const factor = factors.reduce((a, b) => Math.max(a, b), 1);
  const tried: Llama3Rope[] = [context ?? 8192, 8192].map((original) => ({
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: original,
  }));
  // Between the two turns, the share s of the unstretched frequency is a linear function of the turns: s = slope * turns - shift.
  const between = turns(theta, headDim).flatMap((turn, i) => {
    const share = (1 / factors[i] - 1 / factor) / (1 - 1 / factor);
    return share > TOLERANCE && share < 1 - TOLERANCE ? [{ turn, share }] : [];
  });
  if (between.length >= 2) {
    const first = between[0], last = between[between.length - 1];
    const slope = (first.share - last.share) / (first.turn - last.turn);
    const shift = slope * last.turn - last.share;
    tried.push({
      factor,
      low_freq_factor: 1,
      high_freq_factor: Math.round(1e3 * (1 + 1 / shift)) / 1e3,
      original_max_position_embeddings: Math.round(slope / shift),
    });
  }
  return tried.find((rope) => {
    const again = ropeFactors(theta, headDim, rope);
    return again.length === factors.length &&
      again.every((value, i) => Math.abs(value / factors[i] - 1) < TOLERANCE);
  });
}
