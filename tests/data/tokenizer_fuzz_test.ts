/** Damaged tokenizers: a clear error, or one that can be used; never another exception, and never for long. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { parrotTokenizer, parrotTokenizerConfig } from "../../src/parrot/tokenizer.ts";
import { randomStream } from "../../src/random/stream.ts";
import { golden, withDirectory } from "../assets.ts";
import { mutateJson, mutateText } from "../fuzz.ts";

const EACH = 350;

/** Milliseconds that a tokenizer may take to be loaded and used. */
const MOST_TIME = 2000;

const TEXTS = [
  "",
  " ",
  "is it true that 3 plus 5 is 8 ?",
  "Grüße, <|end|> 東京\n\n  12345 'll 😀",
  "<s>a</s> <mask>",
];

const read = (kind: string) => JSON.parse(Deno.readTextFileSync(golden(`tokenizers/${kind}.json`)));

const KINDS: [name: string, json: () => unknown][] = [
  ["parrot", parrotTokenizer],
  ...["llama3", "llama2", "mistral", "gemma", "word_piece", "mixed"].map((kind): [string, () => unknown] => [
    kind,
    () => read(kind),
  ]),
];

/** Loads and uses what is in the directory; true when it works. */
function works(directory: string): boolean {
  let loaded = false;
  try {
    const tokenizer = loadTokenizer(directory);
    loaded = true;
    for (const text of TEXTS) {
      try {
        const ids = tokenizer.encode(text);
        assert.ok(ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize));
        assert.equal(typeof tokenizer.decode(ids), "string");
      } catch (error) {
        assert.match(String(error), /^Error: Cannot (encode|decode) /);
      }
    }
    assert.equal(typeof tokenizer.decode([0, 5, tokenizer.vocabSize - 1, 1e6]), "string");
    return true;
  } catch (error) {
    if (loaded) throw error;
    assert.ok(error instanceof Error && /^Cannot read .*\.$/s.test(error.message), String(error));
    assert.ok(error.message.length < 1000, error.message);
    return false;
  }
}

for (const [kind, make] of KINDS) {
  Deno.test(`${EACH} damaged copies of a tokenizer like ${kind}'s are refused or can be used`, () =>
    withDirectory((directory) => {
      const file = join(directory, "tokenizer.json"), settings = join(directory, "tokenizer_config.json");
      const json = make(), config = parrotTokenizerConfig();
      let working = 0;
      for (let i = 0; i < EACH; i++) {
        const random = randomStream(7, kind, i);
        const text = JSON.stringify(i % 5 === 4 ? json : mutateJson(json, random));
        Deno.writeTextFileSync(file, i % 5 === 3 ? mutateText(text, random) : text);
        Deno.writeTextFileSync(settings, JSON.stringify(i % 5 === 4 ? mutateJson(config, random) : config));
        const begin = performance.now();
        try {
          if (works(directory)) working++;
        } catch (error) {
          throw new Error(`mutation ${i}: ${(error as Error).message}`, { cause: error });
        }
        const time = performance.now() - begin;
        assert.ok(time < MOST_TIME, `mutation ${i} took ${time} ms`);
      }
      // Both happen often, or this test says nothing.
      assert.ok(working > EACH / 10 && working < EACH * 0.9, `${working} of ${EACH} can be used`);
    }));
}
