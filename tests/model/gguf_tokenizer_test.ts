import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import { mergesOfScores, TOKEN_TYPES } from "../../src/model/gguf_tokenizer.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { writeGguf } from "../../src/model/write_gguf.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { smollm2Test } from "../smollm2.ts";
import { assemble, MAGIC, type Part, writeParts } from "./gguf_goldens.ts";
import { randomWeights, tinyLlama, tinyTokenizer } from "./tiny_gguf.ts";

interface Row {
  text: string;
  ids: number[];
  decoded: string;
  decoded_skip_special?: string;
}

const reference = (name: string) =>
  JSON.parse(Deno.readTextFileSync(asset(`goldens/tokenizers/${name}.json`)));

/** A file of no tensors with the tokenizer's entries. */
function write(directory: string, entries: Record<string, Part[] | undefined>): string {
  const kept = Object.entries(entries).filter(([, parts]) => parts !== undefined) as [string, Part[]][];
  const parts = kept.flatMap(([key, value]): Part[] => [`tokenizer.${key}`, ...value]);
  return writeParts(directory, [MAGIC, 3, 0n, BigInt(kept.length), ...parts]);
}

const text = (value: string): Part[] => [8, value];
const u32 = (value: number): Part[] => [4, value];
const yes: Part[] = [7, Uint8Array.of(1)];
const texts = (values: string[]): Part[] => [9, 8, BigInt(values.length), assemble(...values)];
const i32s = (values: number[]): Part[] => [
  9,
  5,
  BigInt(values.length),
  new Uint8Array(Int32Array.from(values).buffer),
];
const f32s = (values: number[]): Part[] => [
  9,
  6,
  BigInt(values.length),
  new Uint8Array(Float32Array.from(values).buffer),
];

/** Compares with the golden of SmolLM2's tokenizer. */
function checkSmollm2(tokenizer: Tokenizer): void {
  assert.deepEqual([tokenizer.bosId, tokenizer.eosId, tokenizer.padId, tokenizer.vocabSize], [
    1,
    2,
    2,
    49152,
  ]);
  assert.equal(tokenizer.eosToken, "<|im_end|>");
  const { rows, chats } = reference("smollm2");
  assert.equal(rows.length, 300);
  for (const { text, ids, decoded, decoded_skip_special } of rows as Row[]) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), decoded);
    assert.equal(tokenizer.decode(ids), decoded_skip_special ?? decoded);
  }
  for (const { messages, add_generation_prompt: addGenerationPrompt, text, ids } of chats) {
    assert.equal(tokenizer.applyChatTemplate(messages, { addGenerationPrompt }), text);
    assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids);
  }
}

smollm2Test(
  "the tokenizer in SmolLM2's file equals transformers on 300 strings and 12 conversations",
  (path) => {
    checkSmollm2(loadTokenizer(path));
  },
);

assetTest("SmolLM2's tokenizer, written into a GGUF file, is the same", () =>
  withDirectory((directory) => {
    const source = asset("goldens/tokenizers/smollm2");
    const tokenizer = gunzipSync(Deno.readFileSync(join(source, "tokenizer.json.gz")));
    Deno.writeFileSync(join(directory, "tokenizer.json"), tokenizer);
    Deno.copyFileSync(join(source, "tokenizer_config.json"), join(directory, "tokenizer_config.json"));
    const { config } = tinyLlama({ vocab_size: 49152, hidden_size: 8 });
    const weights = randomWeights({ "model.embed_tokens.weight": [49152, 8] });
    const path = `${directory}/model.gguf`;
    assert.deepEqual(writeGguf(path, { config, weights, tokenizerFrom: directory, type: "F16" }).notes, []);
    assert.equal(readGguf(path).metadata.get("tokenizer.ggml.pre"), "smollm");
    checkSmollm2(loadTokenizer(path));
  }));

assetTest(
  "the stories tokenizer, written as pieces with scores, equals llama2.c",
  () =>
    withDirectory((directory) => {
      const source = asset("goldens/models/stories260K");
      const { config } = tinyLlama({ vocab_size: 512, hidden_size: 8 });
      const weights = randomWeights({ "model.embed_tokens.weight": [512, 8] });
      const path = `${directory}/model.gguf`;
      assert.deepEqual(writeGguf(path, { config, weights, tokenizerFrom: source, type: "F16" }).notes, []);
      assert.equal(readGguf(path).metadata.get("tokenizer.ggml.model"), "llama");
      const tokenizer = loadTokenizer(path);
      const { rows, special } = reference("stories260K") as { rows: Row[]; special: Row[] };
      for (const { text, ids, decoded } of [...rows, ...special]) {
        assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
        assert.equal(tokenizer.decode(ids), decoded);
      }
    }),
);

Deno.test("texts are cut as Rust's tokenizers cut them, for every name of a pre-tokenizer", () =>
  withDirectory((directory) => {
    const goldens = JSON.parse(Deno.readTextFileSync(golden("gguf/tokenizers.json")));
    for (const [pre, { tokens, merges, ids }] of Object.entries(goldens.kinds as Record<string, Kind>)) {
      const end = tokens.indexOf("<|end|>");
      const tokenizer = loadTokenizer(write(directory, {
        "ggml.model": text("gpt2"),
        "ggml.pre": pre === "default" ? undefined : text(pre),
        "ggml.tokens": texts(tokens),
        "ggml.token_type": i32s(tokens.map((_, id) => id === end ? TOKEN_TYPES.control : TOKEN_TYPES.normal)),
        "ggml.merges": texts(merges),
        "ggml.bos_token_id": u32(end),
      }));
      for (const [i, text] of (goldens.texts as string[]).entries()) {
        const got = tokenizer.encode(text, { addSpecialTokens: false });
        assert.deepEqual(got, ids[i], `${pre}: ${JSON.stringify(text)}`);
        const composed = pre === "qwen2" ? text.normalize("NFC") : text;
        assert.equal(tokenizer.decode(got, { skipSpecialTokens: false }), composed);
      }
      // Llama 3's texts begin with the beginning token where a file does not say.
      assert.deepEqual(tokenizer.encode("a")[0] === end, pre === "llama-bpe");
    }
  }));

interface Kind {
  tokens: string[];
  merges: string[];
  ids: number[][];
}

Deno.test("a written tokenizer of SentencePiece's kind has pieces, types and scores, and reads as it was", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const tokenizerFrom = tinyTokenizer(directory);
    const model = tinyLlama({ vocab_size: 271 });
    assert.deepEqual(writeGguf(path, { ...model, tokenizerFrom, type: "F32" }).notes, []);
    const { metadata } = readGguf(path);
    const get = (name: string) => metadata.get(`tokenizer.ggml.${name}`);
    // Rows of the embedding without a token are filled up.
    assert.deepEqual((get("tokens") as string[]).slice(267), ["<0xFE>", "<0xFF>", "[PAD269]", "[PAD270]"]);
    assert.deepEqual(
      get("token_type"),
      Int32Array.of(2, 3, 3, ...Array(10).fill(1), ...Array(256).fill(6), 5, 5),
    );
    assert.deepEqual((get("scores") as Float32Array).slice(7, 12), Float32Array.of(-0, -1, -3, -5, -2));
    assert.deepEqual(
      [
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
      ]
        .map(get),
      [1, 2, 0, true, false, true],
    );
    const before = loadTokenizer(tokenizerFrom), after = loadTokenizer(path);
    for (const text of ["abc", " abcabc bc", "a\nb", "<s>ab</s>", "éa", "ü", ""]) {
      assert.deepEqual(after.encode(text), before.encode(text), text);
    }
    assert.equal(after.decode([1, 10, 3, 11]), "abc bc");
    assert.equal(after.applyChatTemplate([{ role: "user", content: "hello" }]), "hello");
    assert.throws(
      () => writeGguf(path, { ...tinyLlama({ vocab_size: 268 }), tokenizerFrom, type: "F32" }),
      /Cannot write .*: the tokenizer in .* has 269 tokens, but the model has only 268/,
    );
  }));

Deno.test("a tokenizer that ggml has no kind for is kept as Hugging Face's, with a note", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const { config } = tinyLlama({ vocab_size: 209, hidden_size: 8, bos_token_id: null, eos_token_id: null });
    const weights = randomWeights({ "model.embed_tokens.weight": [209, 8] });
    const path = `${directory}/model.gguf`;
    assert.deepEqual(writeGguf(path, { config, weights, tokenizerFrom: directory, type: "F32" }).notes, [
      "The tokenizer is none that llama.cpp knows; the file holds it as Hugging Face's tokenizer.json.",
    ]);
    const before = loadTokenizer(directory), after = loadTokenizer(path);
    assert.deepEqual(after.encode("yes no <eos>"), before.encode("yes no <eos>"));
    assert.deepEqual(
      [after.bosId, after.eosId, after.padId, after.vocabSize],
      [before.bosId, before.eosId, before.padId, before.vocabSize],
    );
  }));

Deno.test("merges follow from scores: best pieces first, older parts first", () => {
  const tokens = ["<s>", "a", "b", "ab", "ba", "aba", "zz"];
  const types = tokens.map((_, id) => id === 0 ? TOKEN_TYPES.control : TOKEN_TYPES.normal);
  assert.deepEqual(mergesOfScores(tokens, types, [0, -9, -9, -2, -1, -3, 0]), [
    ["b", "a"],
    ["a", "b"],
    ["a", "ba"],
    ["ab", "a"],
  ]);
});

const VALID = {
  "ggml.model": text("llama"),
  "ggml.tokens": texts(["<unk>", "<s>", "</s>", "a"]),
  "ggml.scores": f32s([0, 0, 0, 0]),
  "ggml.token_type": i32s([2, 3, 3, 1]),
};

const REFUSED: [string, Record<string, Part[] | undefined>, RegExp][] = [
  [
    "no tokenizer",
    { "ggml.model": undefined },
    /"tokenizer\.ggml\.model" is missing\. Expected "gpt2" or "llama"/,
  ],
  ["another kind", { "ggml.model": text("t5") }, /"tokenizer\.ggml\.model" is "t5"/],
  ["no tokens", { "ggml.tokens": undefined }, /"tokenizer\.ggml\.tokens" is missing or empty/],
  ["numbers for tokens", { "ggml.tokens": i32s([1]) }, /"tokenizer\.ggml\.tokens" is not a list of texts/],
  ["a token twice", { "ggml.tokens": texts(["a", "<s>", "</s>", "a"]) }, /its tokens 0 and 3 are both "a"/],
  ["too few types", { "ggml.token_type": i32s([1]) }, /token_type" is not a list of 4 whole numbers/],
  ["no scores", { "ggml.scores": undefined }, /scores" is not a list of 4 numbers/],
  ["an id too large", { "ggml.bos_token_id": u32(4) }, /bos_token_id" is 4\. Expected an id of its 4 tokens/],
  ["a flag that is a number", { "ggml.add_bos_token": u32(1) }, /add_bos_token" is not true or false/],
  ["a template that is a number", { "chat_template": u32(1) }, /"tokenizer\.chat_template" is not a text/],
  ["removed blanks", { "ggml.remove_extra_whitespaces": yes }, /remove_extra_whitespaces" is true/],
  [
    "a long piece",
    { "ggml.tokens": texts(["<unk>", "<s>", "</s>", "a".repeat(2000)]) },
    /its token 3 has 2000 characters\. Expected at most 1024/,
  ],
  [
    "an unknown pre-tokenizer",
    { "ggml.model": text("gpt2"), "ggml.pre": text("gpt-4o") },
    /"tokenizer\.ggml\.pre" is "gpt-4o"\. Expected one of gpt-2, .*qwen2/,
  ],
  ["no merges", { "ggml.model": text("gpt2") }, /"tokenizer\.ggml\.merges" is not a list of texts/],
  [
    "a merge of one part",
    { "ggml.model": text("gpt2"), "ggml.merges": texts(["a b", "ab"]) },
    /merge 1 is "ab"\. Expected two parts with a blank between/,
  ],
  [
    "a broken tokenizer.json",
    { "huggingface.json": text("{") },
    /"tokenizer\.huggingface\.json" is not a JSON/,
  ],
];

for (const [what, changes, message] of REFUSED) {
  Deno.test(`a tokenizer with ${what} is refused`, () =>
    withDirectory((directory) => {
      const path = write(directory, { ...VALID, ...changes });
      assert.throws(() => loadTokenizer(path), (error: Error) => {
        assert.match(error.message, /^Cannot read the tokenizer of .*x\.gguf: /);
        assert.match(error.message, message);
        return true;
      });
    }));
}
