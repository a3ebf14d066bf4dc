import assert from "node:assert/strict";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { randomStream } from "../../src/random/stream.ts";
import { pretrainingDocument } from "../../src/parrot/corpus.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { encodeWords, VOCABULARY } from "../../src/parrot/vocabulary.ts";
import { withDirectory } from "../assets.ts";

Deno.test("the written tokenizer gives the vocabulary's ids and gives texts back", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    assert.deepEqual([tokenizer.padId, tokenizer.bosId, tokenizer.eosId, tokenizer.vocabSize], [
      0,
      1,
      2,
      209,
    ]);
    for (const [id, word] of VOCABULARY.entries()) {
      assert.deepEqual(tokenizer.encode(word, { addSpecialTokens: false }), [id]);
      assert.equal(tokenizer.decode([id], { skipSpecialTokens: false }), word);
    }
    const rng = randomStream(1, "tokenizer");
    for (let i = 0; i < 300; i++) {
      const text = pretrainingDocument(rng);
      const ids = tokenizer.encode(text);
      assert.deepEqual(ids, [1, ...encodeWords(text)]);
      assert.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), `<bos> ${text}`);
      assert.equal(tokenizer.decode(ids), text.replace(" <eos>", ""));
    }
  }));

Deno.test("a word outside the world is an error that names it", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    assert.throws(
      () => loadTokenizer(directory).encode("a zebra says"),
      /Cannot encode "zebra": it is not in the vocabulary/,
    );
  }));
