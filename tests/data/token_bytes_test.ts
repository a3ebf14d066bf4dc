import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { tokenOffsets } from "../../src/data/assistant_mask.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { smolTokenizer } from "./smol.ts";

/** Texts with every character up to U+01FF but control characters (SmolLM2 lacks a few of their bytes), with others of one to four bytes, and with special tokens. */
function texts(special: string): string[] {
  const random = randomStream(3, "token bytes");
  const others = ["\n", "  ", "é", "日本", "🙂", "👨‍👩‍👧", "a", "Hello", " the", "123", special];
  const every = Array.from({ length: 0x1e0 }, (_, i) => String.fromCodePoint(i + 0x20)).join("");
  return [
    every,
    ...Array.from(
      { length: 40 },
      () => Array.from({ length: 1 + random.integer(20) }, () => random.choice(others)).join(""),
    ),
  ];
}

assetTest("the bytes of a text's tokens are the bytes of the text", () =>
  withDirectory((directory) => {
    const tokenizers = [
      { tokenizer: smolTokenizer(directory), special: "<|im_end|>", before: "" },
      { tokenizer: loadTokenizer(asset("goldens/models/stories260K")), special: "</s>", before: " " },
    ];
    for (const { tokenizer, special, before } of tokenizers) {
      for (const text of texts(special)) {
        const ids = tokenizer.encode(text, { addSpecialTokens: false });
        const bytes = Uint8Array.from(ids.flatMap((id) => Array.from(tokenizer.tokenBytes(id))));
        // SentencePiece's spaces before a text and after special tokens are checked by the offsets below.
        if (!before) assert.deepEqual(bytes, new TextEncoder().encode(text));
        const offsets = tokenOffsets(tokenizer, text, ids);
        assert.equal(offsets.at(-1)![1], new TextEncoder().encode(text).length, JSON.stringify(text));
        offsets.forEach(([begin, end], i) =>
          assert.ok(begin <= end && (i === 0 || begin === offsets[i - 1][1]))
        );
      }
    }
  }));
