import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { checkVocabulary, loadTokenizer } from "../../src/data/tokenizer.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";

interface Row {
  text: string;
  ids: number[];
  decoded: string;
  decoded_skip_special?: string;
}
const reference = (name: string) =>
  JSON.parse(Deno.readTextFileSync(asset(`goldens/tokenizers/${name}.json`)));

assetTest("the stories tokenizer equals llama2.c on 300 strings and on special tokens within text", () => {
  const tokenizer = loadTokenizer(asset("goldens/models/stories260K"));
  assert.deepEqual([tokenizer.bosId, tokenizer.eosId, tokenizer.padId, tokenizer.vocabSize], [
    1,
    2,
    undefined,
    512,
  ]);
  assert.equal(tokenizer.eosToken, "</s>");
  const { rows, special } = reference("stories260K") as { rows: Row[]; special: Row[] };
  assert.equal(rows.length, 300);
  for (const { text, ids, decoded } of [...rows, ...special]) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), decoded);
    assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids.slice(1));
  }
  assert.equal(tokenizer.decode([]), "");
  assert.equal(tokenizer.decode([1, 2]), "");
});

assetTest(
  "the SmolLM2 tokenizer and its chat template equal transformers",
  () =>
    withDirectory(async (directory) => {
      const source = asset("goldens/tokenizers/smollm2");
      Deno.writeFileSync(
        join(directory, "tokenizer.json"),
        gunzipSync(Deno.readFileSync(join(source, "tokenizer.json.gz"))),
      );
      Deno.copyFileSync(join(source, "tokenizer_config.json"), join(directory, "tokenizer_config.json"));
      const golden = reference("smollm2");
      const check = () => {
        const tokenizer = loadTokenizer(directory);
        for (const { text, ids, decoded, decoded_skip_special } of golden.rows as Row[]) {
          assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
          assert.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), decoded);
          assert.equal(tokenizer.decode(ids), decoded_skip_special ?? decoded);
        }
        for (const { messages, add_generation_prompt: addGenerationPrompt, text, ids } of golden.chats) {
          assert.equal(tokenizer.applyChatTemplate(messages, { addGenerationPrompt }), text);
          assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), ids);
        }
      };
      check();
      // The same from its own file, with a useless one in the config.
      Deno.copyFileSync(join(source, "chat_template.jinja"), join(directory, "chat_template.jinja"));
      await Deno.writeTextFile(
        join(directory, "tokenizer_config.json"),
        Deno.readTextFileSync(join(source, "tokenizer_config.json")).replace("{% for", "{% of"),
      );
      check();
    }),
);

Deno.test("a template sees special tokens and may refuse a conversation; a list of templates is by name", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    assert.equal(loadTokenizer(directory).hasChatTemplate, false);
    assert.throws(
      () => loadTokenizer(directory).applyChatTemplate([]),
      /has no chat template\. Expected "chat_template"/,
    );
    const file = join(directory, "tokenizer_config.json");
    const config = JSON.parse(Deno.readTextFileSync(file));
    const template =
      "{{ bos_token }}{% for m in messages %}\n{% if m.role == 'system' %}{{ raise_exception('No system turn') }}{% endif %}\n" +
      " <{{ m.role }}> {{ m.content }}{{ eos_token }}{% endfor %}";
    Deno.writeTextFileSync(
      file,
      JSON.stringify({
        ...config,
        chat_template: [{ name: "rag", template: "" }, { name: "default", template }],
      }),
    );
    const tokenizer = loadTokenizer(directory);
    assert.equal(tokenizer.applyChatTemplate([{ role: "user", content: "hi" }]), "<bos> <user> hi<eos>");
    assert.throws(
      () => tokenizer.applyChatTemplate([{ role: "system", content: "x" }]),
      /Cannot apply the chat template of .*: No system turn/,
    );
  }));

Deno.test("a tokenizer with more tokens than the model's embedding is refused, fewer are fine", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    checkVocabulary(tokenizer, 209, "m");
    checkVocabulary(tokenizer, 256, "m");
    assert.throws(
      () => checkVocabulary(tokenizer, 208, "models/m"),
      /has 209 tokens, but the model models\/m has only 208/,
    );
    // Ids of the padding rows of a larger head have no text.
    assert.equal(tokenizer.decode([7, 250, 8]), "0 1");
  }));

Deno.test("broken tokenizer files are refused by name", () =>
  withDirectory((directory) => {
    assert.throws(() => loadTokenizer(directory), /tokenizer\.json: the file does not exist/);
    writeParrotTokenizer(directory);
    const file = join(directory, "tokenizer.json");
    const json = JSON.parse(Deno.readTextFileSync(file));
    const refuse = (changes: Record<string, unknown>, message: RegExp) => {
      Deno.writeTextFileSync(file, JSON.stringify({ ...json, ...changes }));
      assert.throws(() => loadTokenizer(directory), message);
    };
    refuse({ model: undefined }, /tokenizer\.json: expected "model" with "vocab"/);
    refuse(
      { added_tokens: [{ id: 4e9, content: "<x>" }] },
      /a token has id 4000000000\. Expected a whole number below/,
    );
    refuse({ added_tokens: [{ content: "<x>" }] }, /a token has id undefined/);
    refuse({ pre_tokenizer: { type: "Magic" } }, /Cannot read .*tokenizer\.json: .*Magic/);
  }));
