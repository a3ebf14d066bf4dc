/**
 * How frozen matrices may be stored, and WGSL that reads them: `load_NAME(i)` gives vec4 number i of the row-major matrix.
 *
 * A stored matrix is words of 32 bits, rows one after the other without padding. A row is blocks of `elements` numbers in `words`
 * words each: those of GGUF files, with two bytes of zeros where a block would not end with a word (after the scale of Q8_0, Q4_0
 * and Q5_0, at the end of Q6_K). The columns are a multiple of `elements`, or completed to one with zeros in F16 and BF16.
 *
 * @module
 */
import { padded, rowStride } from "./kernel.ts";

/** How the elements of a matrix are stored; F32 is padded like every computed matrix, the others as said above. */
export type Storage =
  | "F32"
  | "F16"
  | "BF16"
  | "Q8_0"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K";

/** Elements and words of a block. */
export const STORAGES: Record<Storage, { elements: number; words: number }> = {
  F32: { elements: 4, words: 4 },
  F16: { elements: 4, words: 2 },
  BF16: { elements: 4, words: 2 },
  Q8_0: { elements: 32, words: 9 },
  Q4_0: { elements: 32, words: 5 },
  Q4_1: { elements: 32, words: 5 },
  Q5_0: { elements: 32, words: 6 },
  Q5_1: { elements: 32, words: 6 },
  Q4_K: { elements: 256, words: 36 },
  Q5_K: { elements: 256, words: 44 },
  Q6_K: { elements: 256, words: 53 },
};

/** Whether rows of so many numbers can be stored; F16 and BF16 complete them to a multiple of four with zeros. */
export function canStore(storage: Storage, columns: number): boolean {
  return padded(columns) % STORAGES[storage].elements === 0 &&
    (STORAGES[storage].elements === 4 || columns === padded(columns));
}

/** vec4s from one row of a stored matrix to the next. */
export function storedStride(storage: Storage, columns: number): number {
  const { elements } = STORAGES[storage];
  if (storage === "F32") return rowStride(columns) / 4;
  if (canStore(storage, columns)) return padded(columns) / 4;
  throw new Error(
    `Rows of ${columns} numbers cannot be stored as ${storage}; it takes multiples of ${elements}.`,
  );
}

/** Words of a stored matrix. */
export function storedWords(storage: Storage, rows: number, columns: number): number {
  const { elements, words } = STORAGES[storage];
  return rows * storedStride(storage, columns) * 4 / elements * words;
}

/** The function `load_NAME(i: u32) -> vec4f` over the binding `name`: array<u32>. */
export function loadStored(storage: Exclude<Storage, "F32">, name: string): string {
  const { elements, words } = STORAGES[storage];
  const quads = elements / 4;
  const half = (word: string) => `unpack2x16float(${name}[${word}])`;
  const place = `let at = i / ${quads}u * ${words}u;
  let q = i % ${quads}u;`;
  const body = () => {
    switch (storage) {
      case "F16":
        return `return vec4f(${half("2u * i")}, ${half("2u * i + 1u")});`;
      case "BF16":
        return `let low = ${name}[2u * i];
  let high = ${name}[2u * i + 1u];
  return bitcast<vec4f>(vec4u(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));`;
      case "Q8_0":
        return `${place}
  let bytes = vec4i(bitcast<i32>(${name}[at + 1u + q])) << vec4u(24u, 16u, 8u, 0u);
  return ${half("at")}.x * vec4f(bytes >> vec4u(24u));`;
      case "Q4_0":
        return `${place}
  let low = ${NIBBLES(`${name}[at + 1u + q % 4u] >> (q / 4u * 4u)`)};
  return ${half("at")}.x * (vec4f(low) - 8.0);`;
      case "Q4_1":
        return `${place}
  let low = ${NIBBLES(`${name}[at + 1u + q % 4u] >> (q / 4u * 4u)`)};
  let d = ${half("at")};
  return fma(vec4f(low), vec4f(d.x), vec4f(d.y));`;
      case "Q5_0":
        return `${place}
  let low = ${NIBBLES(`${name}[at + 2u + q % 4u] >> (q / 4u * 4u)`)};
  let high = ((vec4u(${name}[at + 1u] >> (4u * q)) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) << vec4u(4u);
  return ${half("at")}.x * (vec4f(low | high) - 16.0);`;
      case "Q5_1":
        return `${place}
  let low = ${NIBBLES(`${name}[at + 2u + q % 4u] >> (q / 4u * 4u)`)};
  let high = ((vec4u(${name}[at + 1u] >> (4u * q)) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) << vec4u(4u);
  let d = ${half("at")};
  return fma(vec4f(low | high), vec4f(d.x), vec4f(d.y));`;
      case "Q4_K":
        return `${place}
  let sub = q / 8u;
  let low = ${NIBBLES(`${name}[at + 4u + sub / 2u * 8u + q % 8u] >> (sub % 2u * 4u)`)};
  let factors = ${half("at")} * scales_${name}(at, sub);
  return fma(vec4f(low), vec4f(factors.x), vec4f(-factors.y));`;
      case "Q5_K":
        return `${place}
  let sub = q / 8u;
  let low = ${NIBBLES(`${name}[at + 12u + sub / 2u * 8u + q % 8u] >> (sub % 2u * 4u)`)};
  let high = ((vec4u(${name}[at + 4u + q % 8u] >> sub) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(1u)) << vec4u(4u);
  let factors = ${half("at")} * scales_${name}(at, sub);
  return fma(vec4f(low | high), vec4f(factors.x), vec4f(-factors.y));`;
      case "Q6_K":
        return `${place}
  let part = q / 32u;
  let sub = q % 32u / 8u;
  let l = q % 8u;
  let low = ${NIBBLES(`${name}[at + 16u * part + 8u * (sub & 1u) + l] >> (sub / 2u * 4u)`)};
  let high = ((vec4u(${name}[at + 32u + 8u * part + l] >> (2u * sub)) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(3u)) << vec4u(4u);
  let index = 8u * part + 2u * sub + l / 4u;
  let scale = (bitcast<i32>(${name}[at + 48u + index / 4u]) << (24u - index % 4u * 8u)) >> 24u;
  return ${half("at + 52u")}.x * f32(scale) * (vec4f(low | high) - 32.0);`;
    }
  };
  const scales = storage === "Q4_K" || storage === "Q5_K" ? scalesOfSix(name) : "";
  return `${scales}fn load_${name}(i: u32) -> vec4f {
  ${body()}
}`;
}

/** The lower halves of the four bytes of a word. */
const NIBBLES = (word: string) => `((vec4u(${word}) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u))`;

/** Scale and minimum number `sub` of the eight of a block, 6 bits each, in the three words after its first. */
function scalesOfSix(name: string): string {
  return `fn byte_${name}(at: u32, i: u32) -> u32 { return (${name}[at + 1u + i / 4u] >> (i % 4u * 8u)) & 255u; }
fn scales_${name}(at: u32, sub: u32) -> vec2f {
  if (sub < 4u) {
    return vec2f(f32(byte_${name}(at, sub) & 63u), f32(byte_${name}(at, sub + 4u) & 63u));
  }
  let both = byte_${name}(at, sub + 4u);
  let low = byte_${name}(at, sub - 4u) >> 6u;
  let high = byte_${name}(at, sub) >> 6u;
  return vec2f(f32((both & 15u) | (low << 4u)), f32((both >> 4u) | (high << 4u)));
}
`;
}

/** The forms whose blocks of 32 numbers can be read whole. */
export type Blocks32 = "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1";

/** Whether {@linkcode loadBlock} reads this form. */
export function hasBlocks32(storage: Storage): storage is Blocks32 {
  return STORAGES[storage].elements === 32;
}

/**
 * Statements that read what a block of 32 numbers shares, where it begins at word `at` of the binding `name`, and the expression of
 * its vec4 number `q`, with the bits of {@linkcode loadStored}. Names end in `id`.
 */
export function loadBlock(
  storage: Blocks32,
  name: string,
  at: string,
  id: string,
): { shared: string; quad: (q: number) => string } {
  const word = (i: number) => `${name}[${at} + ${i}u]`;
  const scale = `let d${id} = unpack2x16float(${word(0)});`;
  const first = storage === "Q5_0" || storage === "Q5_1" ? 2 : 1;
  const nibbles = [0, 1, 2, 3].map((i) => `let w${id}_${i} = ${word(first + i)};`).join(" ");
  const low = (q: number) => NIBBLES(`w${id}_${q % 4} >> ${q < 4 ? 0 : 4}u`);
  const withHigh = (q: number) =>
    `(${low(q)} | (((vec4u(h${id} >> ${4 * q}u) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) << vec4u(4u)))`;
  switch (storage) {
    case "Q8_0":
      return {
        shared: scale,
        quad: (q) =>
          `d${id}.x * vec4f((vec4i(bitcast<i32>(${word(1 + q)})) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u))`,
      };
    case "Q4_0":
      return { shared: `${scale} ${nibbles}`, quad: (q) => `d${id}.x * (vec4f(${low(q)}) - 8.0)` };
    case "Q4_1":
      return {
        shared: `${scale} ${nibbles}`,
        quad: (q) => `fma(vec4f(${low(q)}), vec4f(d${id}.x), vec4f(d${id}.y))`,
      };
    case "Q5_0":
      return {
        shared: `${scale} let h${id} = ${word(1)}; ${nibbles}`,
        quad: (q) => `d${id}.x * (vec4f(${withHigh(q)}) - 16.0)`,
      };
    case "Q5_1":
      return {
        shared: `${scale} let h${id} = ${word(1)}; ${nibbles}`,
        quad: (q) => `fma(vec4f(${withHigh(q)}), vec4f(d${id}.x), vec4f(d${id}.y))`,
      };
  }
}
