/** Small tokenizers of every kind in use against Rust's `tokenizers`, on difficult strings. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { SplitPreTokenizer } from "@huggingface/tokenizers";
import { checkTokenizer } from "../../src/data/tokenizer_file.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { golden, withDirectory } from "../assets.ts";

interface Row {
  ids: number[];
  bare: number;
  decoded: string;
  plain: string;
}

const KINDS = [
  "gpt2",
  "gpt_neox",
  "llama3",
  "qwen2",
  "llama2",
  "mistral",
  "gemma",
  "word_piece",
  "mixed",
  "splits",
];

const { strings, rows } = JSON.parse(Deno.readTextFileSync(golden("tokenizers/goldens.json"))) as {
  strings: string[];
  rows: Record<string, Row[]>;
};

const read = (kind: string) => JSON.parse(Deno.readTextFileSync(golden(`tokenizers/${kind}.json`)));

/** Loads a tokenizer from a directory of its own. */
async function withTokenizer(
  json: unknown,
  use: (load: () => ReturnType<typeof loadTokenizer>) => void,
): Promise<void> {
  await withDirectory((directory) => {
    Deno.writeTextFileSync(join(directory, "tokenizer.json"), JSON.stringify(json));
    const settings = { bos_token: "<s>", eos_token: "</s>", clean_up_tokenization_spaces: false };
    Deno.writeTextFileSync(join(directory, "tokenizer_config.json"), JSON.stringify(settings));
    use(() => loadTokenizer(directory));
  });
}

/** Texts that the package takes apart in another way. */
const REFUSED =
  /Cannot encode ".*" with .*: (a token that is a word of its own touches|the blank in front of)/s;
const REFUSED_TEXTS = ["<word> sword<word>s <word>", "x\u0085<mask>\u2003y \u00a0<mask> \ufeff<mask>"];

for (const kind of KINDS) {
  Deno.test(`ids and texts of a tokenizer like ${kind}'s are those of Rust`, () =>
    withTokenizer(read(kind), (load) => {
      const tokenizer = load();
      assert.ok(strings.length > 60);
      strings.forEach((text, i) => {
        const { ids, bare, decoded, plain } = rows[kind][i], name = JSON.stringify(text);
        assert.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), decoded, name);
        assert.equal(tokenizer.decode(ids), plain, name);
        if (REFUSED_TEXTS.includes(text)) {
          assert.throws(() => tokenizer.encode(text), REFUSED);
          return;
        }
        assert.deepEqual(tokenizer.encode(text), ids, name);
        assert.equal(tokenizer.encode(text, { addSpecialTokens: false }).length, bare, name);
      });
    }));
}

Deno.test("every kind of split makes the pieces that Rust makes", () => {
  const { strings, splits } = JSON.parse(Deno.readTextFileSync(golden("tokenizers/split_pieces.json")));
  assert.equal(splits.length, 50);
  for (const { split, pieces } of splits) {
    const { json } = checkTokenizer({ ...read("gpt2"), pre_tokenizer: split }, "tokenizer.json");
    const made = new SplitPreTokenizer(
      json.pre_tokenizer as ConstructorParameters<typeof SplitPreTokenizer>[0],
    );
    strings.forEach((text: string, i: number) => {
      assert.deepEqual(made.pre_tokenize_text(text), pieces[i], `${JSON.stringify(split)}: ${text}`);
    });
  }
});

Deno.test("what would be encoded in another way than by Rust is refused by name", async () => {
  await withTokenizer(
    read("unigram"),
    (load) => assert.throws(load, /it is a Unigram model, which keel does not do/),
  );
  const refuse = (kind: string, change: (json: ReturnType<typeof read>) => void, message: RegExp) => {
    const json = read(kind);
    change(json);
    return withTokenizer(json, (load) => assert.throws(load, message));
  };
  await refuse(
    "gpt2",
    ({ model }) => model.dropout = 0.1,
    /"dropout" is 0\.1, which keel does not do\. Expected null/,
  );
  await refuse(
    "mixed",
    ({ model }) => model.fuse_unk = true,
    /"fuse_unk" is true, which keel does not do exactly/,
  );
  await refuse("llama2", ({ model }) => delete model.vocab["<0x7F>"], /"fuse_unk" is true/);
  await refuse("gpt2", ({ model }) => model.end_of_word_suffix = "</w>", /"end_of_word_suffix" is "<\/w>"/);
  await refuse("gpt2", ({ model }) => model.merges.push(["a"]), /the merge \["a"\] is not a pair of tokens/);
  await refuse(
    "gpt2",
    (json) => json.normalizer = { type: "Nmt" },
    /"normalizer" has the type "Nmt"\. Expected Bert/,
  );
  await refuse("gpt2", (json) => json.decoder = { type: "CTC" }, /"decoder" has the type "CTC"/);
  await refuse(
    "splits",
    ({ pre_tokenizer }) => pre_tokenizer.pretokenizers[0].behavior = "Eaten",
    /behavior "Eaten"/,
  );
});

Deno.test("a space in front of every text is added, and blanks of which not all agree are refused there", async () => {
  const json = read("gpt2");
  json.pre_tokenizer.add_prefix_space = true;
  await withTokenizer(json, (load) => {
    const tokenizer = load();
    const at = strings.indexOf(" Hello");
    assert.deepEqual(tokenizer.encode("Hello"), rows.gpt2[at].ids);
    assert.throws(
      () => tokenizer.encode("a\ufeffb"),
      /Cannot encode "\ufeff" with .*: it has a blank that is not one/,
    );
  });
});
