/**
 * The bytes of text that a token stands for, from the texts in `tokenizer.json`: byte-level vocabularies write each byte as a
 * printable character, SentencePiece's write a space as ▁ and single bytes as `<0x0A>`.
 *
 * @module
 */
import { isJsonObject, type JsonObject } from "../model/json_file.ts";

/** GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards. */
function byteLevelTable(): Map<string, number> {
  const table = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = byte >= 0x21 && byte <= 0x7e || byte >= 0xa1 && byte <= 0xac || byte >= 0xae;
    table.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return table;
}

/** Whether a step of the tokenizer, or one within a sequence, has a type. */
function hasStep(step: unknown, type: string): boolean {
  if (!isJsonObject(step)) return false;
  if (step.type === type) return true;
  const parts = step.pretokenizers ?? step.decoders;
  return Array.isArray(parts) && parts.some((part) => hasStep(part, type));
}

/**
 * The function from a token's id and text (as the vocabulary writes it) to bytes, for a tokenizer in Hugging Face's format.
 */
export function tokenBytesOf(json: JsonObject): (id: number, token: string) => Uint8Array {
  const encoder = new TextEncoder();
  const added = new Set<unknown>();
  if (Array.isArray(json.added_tokens)) {
    for (const token of json.added_tokens) if (isJsonObject(token)) added.add(token.id);
  }
  if (hasStep(json.decoder, "ByteLevel")) {
    const table = byteLevelTable();
    return (id, token) =>
      added.has(id) ? encoder.encode(token) : Uint8Array.from(token, (letter) => table.get(letter) ?? 0);
  }
  return (id, token) => {
    if (added.has(id)) return encoder.encode(token);
    const byte = /^<0x([0-9A-F]{2})>$/.exec(token);
    return byte ? Uint8Array.of(parseInt(byte[1], 16)) : encoder.encode(token.replaceAll("▁", " "));
  };
}
