/** Text as it is drawn against the text of all tokens at once. */
import assert from "node:assert/strict";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import { stopAt, type TextStream, tokenText } from "../../src/sample/text_stream.ts";
import { asset, assetTest } from "../assets.ts";
import { random } from "../kernels/helpers.ts";

/** A tokenizer whose tokens are bytes. */
const bytes: Pick<Tokenizer, "decode"> = { decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids)) };

const encode = (text: string) => Array.from(new TextEncoder().encode(text));

function pieces<T>(stream: TextStream<T>, parts: T[]): string[] {
  return [...parts.map((part) => stream.push(part)), stream.end()];
}

const { below } = random(31);

Deno.test("a character is given out when it is whole, and not before", () => {
  const text = "aé☃𝄞 – ok";
  const given = pieces(tokenText(bytes), encode(text));
  assert.equal(given.join(""), text);
  assert.deepEqual(given.filter((piece) => piece !== ""), Array.from(text));
  assert.equal(given[2], "é");
});

Deno.test("long texts of random characters come out as they are, and bytes that are none as their sign", () => {
  const characters = ["a", " ", "é", "☃", "𝄞", "👩‍🚀", "\n"];
  const text = Array.from({ length: 400 }, () => characters[below(characters.length)]).join("");
  const given = pieces(tokenText(bytes), encode(text));
  assert.equal(given.join(""), text);
  assert.ok(given.every((piece) => piece.isWellFormed()));
  const broken = [0x61, 0xe2, 0x62, 0xf0, 0x9f];
  assert.equal(pieces(tokenText(bytes), broken).join(""), bytes.decode(broken));
});

assetTest("random tokens of a tokenizer with words and bytes have the text of all of them at once", () => {
  const tokenizer = loadTokenizer(asset("goldens/models/stories260K"));
  for (let round = 0; round < 40; round++) {
    const ids = Array.from({ length: 1 + below(200) }, () => 259 + below(tokenizer.vocabSize - 259));
    assert.equal(pieces(tokenText(tokenizer), ids).join(""), tokenizer.decode(ids));
  }
  const ids = tokenizer.encode("Once, ☃☃ met 👩‍🚀 – they sang: 𝄞!", { addSpecialTokens: false });
  const given = pieces(tokenText(tokenizer), ids);
  assert.equal(given.join(""), tokenizer.decode(ids));
  assert.ok(given.every((piece) => !piece.includes("\ufffd")));
});

Deno.test("spaces before punctuation are not taken back", () => {
  const words = ["it", " is", " so", " ."];
  const decode: Tokenizer["decode"] = (ids, { cleanUpSpaces = true } = {}) => {
    const text = Array.from(ids, (id) => words[id]).join("");
    return cleanUpSpaces ? text.replace(" .", ".") : text;
  };
  assert.equal(pieces(tokenText({ decode }), [0, 1, 2, 3]).join(""), "it is so .");
});

Deno.test("text ends before the stop string that is whole first, of which nothing is given out, however it is cut", () => {
  const letters = ["a", "b", "c"];
  const word = (most: number) =>
    Array.from({ length: 1 + below(most) }, () => letters[below(letters.length)]).join("");
  for (let round = 0; round < 2000; round++) {
    const text = word(30), stops = Array.from({ length: 1 + below(4) }, () => word(4));
    // The shortest beginning of the text that ends with one of them, without that.
    const end = Array.from(text, (_, i) => i + 1).find((i) =>
      stops.some((stop) => text.slice(0, i).endsWith(stop))
    );
    const lengths = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map(({ length }) => length);
    const at = end === undefined ? Infinity : end - Math.max(...lengths);
    const parts: string[] = [];
    for (let from = 0; from < text.length;) parts.push(text.slice(from, from += 1 + below(5)));
    const stream = stopAt(stops), given = pieces(stream, parts);
    assert.equal(given.join(""), text.slice(0, at), `${text} ${stops}`);
    assert.equal(stream.stopped, at < Infinity);
    // What cannot be the beginning of a stop string is not held back.
    let shown = "", seen = "";
    for (const [i, part] of parts.entries()) {
      shown += given[i];
      seen += part;
      if (seen.length < at) {
        const held = seen.slice(shown.length);
        assert.ok(held === "" || stops.some((stop) => stop.startsWith(held)), `${held} of ${stops}`);
      }
    }
  }
});
