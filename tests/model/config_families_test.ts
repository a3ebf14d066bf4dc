/** The configs of every family: both spellings, defaults, what is refused by name, and what is written. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  configJson,
  type ModelConfig,
  parseConfig,
  readConfig,
  writeConfig,
} from "../../src/model/config.ts";
import type { JsonObject } from "../../src/model/json_file.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { CASES } from "./family_configs.ts";

for (const [family, { now, before, means, refused }] of Object.entries(CASES)) {
  const read = (json: JsonObject) => {
    // A model with few tokens has none of the usual special ones beyond them.
    const ids = { bos_token_id: 1, eos_token_id: null, pad_token_id: null };
    return parseConfig({ ...ids, ...json }, "m/config.json");
  };
  Deno.test(`${family} is read in both spellings and written as the same model`, () => {
    const config = read(now);
    assert.deepEqual(read(before), config);
    for (const [name, value] of Object.entries(means)) {
      assert.deepEqual(config[name as keyof ModelConfig], value, name);
    }
    assert.equal(config.family, family);
    // Dropout is not written: the model was trained without.
    delete config.dropout;
    assert.deepEqual(parseConfig(JSON.parse(JSON.stringify(configJson(config))), "again"), config);
    const reward: ModelConfig = { ...config, architecture: "reward" };
    assert.deepEqual(parseConfig(configJson(reward), "again"), reward);
  });
  Deno.test(`what ${family} does not compute is refused by name`, () => {
    for (const [change, message] of refused) {
      assert.throws(() => read({ ...before, ...change }), message, JSON.stringify(change));
      assert.throws(() => read({ ...before, ...change }), /^Error: Cannot read m\/config\.json/);
    }
  });
}

Deno.test("a window that no layer has is none, and a window is the family's default where nothing is said", () => {
  const qwen = { ...CASES.qwen2.before, max_window_layers: 28 };
  assert.equal(parseConfig(qwen, "x").window, undefined);
  const { sliding_window: _, ...mistral } = CASES.mistral.before;
  assert.deepEqual(parseConfig(mistral, "x").window, { size: 4096, sliding: [true, true, true] });
  assert.equal(parseConfig({ ...mistral, sliding_window: null }, "x").window, undefined);
  const { sliding_window: __, ...phi } = CASES.phi3.before;
  assert.equal(parseConfig({ ...phi, pad_token_id: 0 }, "x").window, undefined);
});

Deno.test("caps that are null are none, and absent ones the family's", () => {
  const { attn_logit_softcapping: _, final_logit_softcapping: __, ...bare } = CASES.gemma2.before;
  const caps = (json: JsonObject) => {
    const { scoreCap, logitCap } = parseConfig(json, "x");
    return [scoreCap, logitCap];
  };
  assert.deepEqual(caps(bare), [50, 30]);
  assert.deepEqual(caps({ ...bare, attn_logit_softcapping: null, final_logit_softcapping: null }), [
    undefined,
    undefined,
  ]);
});

Deno.test("whole soft caps are written with a point, as transformers 5 wants them", () =>
  withDirectory((directory) => {
    writeConfig(directory, parseConfig({ ...CASES.gemma2.now, attn_logit_softcapping: 50 }, "x"));
    const text = Deno.readTextFileSync(join(directory, "config.json"));
    assert.match(text, /"attn_logit_softcapping": 50\.0,/);
    assert.match(text, /"final_logit_softcapping": 8\.0\n/);
    assert.deepEqual([readConfig(directory).scoreCap, readConfig(directory).logitCap], [50, 8]);
  }));

assetTest(
  "the config of every golden is read, written and read as the same",
  () =>
    withDirectory((directory) => {
      let count = 0;
      for (const { name } of Deno.readDirSync(asset("goldens/models"))) {
        const config = readConfig(asset(`goldens/models/${name}`));
        writeConfig(directory, config);
        assert.deepEqual(readConfig(directory), config, name);
        for (const file of Deno.readDirSync(directory)) Deno.removeSync(join(directory, file.name));
        count++;
      }
      assert.ok(count >= 16, `${count} configs`);
    }),
);
