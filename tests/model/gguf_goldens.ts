/** What Python's gguf made, in `goldens/gguf`, and GGUF files put together by hand. */
import { join } from "node:path";
import { golden } from "../assets.ts";

/** The content of blocks.json; bytes and floats are in base64. */
interface Goldens {
  dequantised: Record<string, { bytes: string; values: string }>;
  quantised: { values: string; Q8_0: string };
  every_type: Record<string, { shape: number[]; values: string }>;
}

export function goldens(): Goldens {
  return JSON.parse(Deno.readTextFileSync(golden("gguf/blocks.json")));
}

export function goldenBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function goldenFloats(text: string): Float32Array<ArrayBuffer> {
  return new Float32Array(goldenBytes(text).buffer);
}

/** A part of a file: numbers as u32, bigints as u64, texts with their length, bytes as they are. */
export type Part = number | bigint | string | Uint8Array;

/** The parts one after the other. */
export function assemble(...parts: Part[]): Uint8Array<ArrayBuffer> {
  const bytes = parts.flatMap((part) => {
    if (part instanceof Uint8Array) return [...part];
    if (typeof part === "string") {
      const text = new TextEncoder().encode(part);
      return [...assemble(BigInt(text.length)), ...text];
    }
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(part)), true);
    return [...new Uint8Array(view.buffer, 0, typeof part === "bigint" ? 8 : 4)];
  });
  return Uint8Array.from(bytes);
}

/** What a file begins with. */
export const MAGIC = new TextEncoder().encode("GGUF");

/** Writes a file of the parts, filled up with zeros to `size`, and returns its path. */
export function writeParts(directory: string, parts: Part[], size = 0): string {
  const path = join(directory, "x.gguf");
  const bytes = assemble(...parts);
  const file = new Uint8Array(Math.max(size, bytes.length));
  file.set(bytes);
  Deno.writeFileSync(path, file);
  return path;
}
