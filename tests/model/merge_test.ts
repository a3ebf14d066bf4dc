/** Adapters folded into their bases, against PEFT's merge_and_unload. */
import assert from "node:assert/strict";
import { openMerged } from "../../src/model/merge.ts";
import { asset, assetTest } from "../assets.ts";
import { openGolden } from "./golden.ts";

for (const name of ["tiny-llama-lora", "tiny-llama-dora", "tiny-gpt2-lora", "tiny-gpt2-dora"]) {
  assetTest(`${name} is merged as PEFT merges it`, () => {
    const directory = asset(`goldens/adapters/${name}`);
    const g = openGolden(directory), { weights } = openMerged(directory);
    const merged = Object.keys(g.json.tensors as object).filter((key) => key.startsWith("merged."));
    assert.ok(merged.length >= 4);
    for (const key of merged) {
      const got = weights.read(key.slice("merged.".length)), want = g.floats(key);
      assert.equal(got.length, want.length, key);
      const worst = got.reduce((most, x, i) => Math.max(most, Math.abs(x - want[i])), 0);
      assert.ok(worst <= g.atol(key), `${key} is off by ${worst / g.atol(key)} times its atol.`);
    }
  });
}
