/** Defaults of the online methods are TRL's, field by field. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { grpoOptions, rlooOptions } from "../../src/train/options/defaults.ts";
import { camelCase } from "../../src/train/options/names.ts";
import { golden } from "../assets.ts";

const DEFAULTS: Record<string, Record<string, unknown>> = JSON.parse(
  readFileSync(golden("trl/config_defaults.json"), "utf8"),
);

/** keel recomputes activations only where it is asked to. */
const OTHERWISE = ["gradientCheckpointing"];

for (const [config, options] of [["GRPOConfig", grpoOptions()], ["RLOOConfig", rlooOptions()]] as const) {
  Deno.test(`what keel has of TRL's ${config} has TRL's default`, () => {
    const own = options as unknown as Record<string, unknown>;
    let compared = 0;
    for (const [field, value] of Object.entries(DEFAULTS[config])) {
      const name = camelCase(field);
      if (!(name in own) || OTHERWISE.includes(name)) continue;
      assert.deepEqual(own[name] ?? null, value, field);
      compared++;
    }
    assert.ok(compared > (config === "GRPOConfig" ? 30 : 12), `${compared}`);
  });
}

Deno.test("TRL's booleans for scale_rewards are read as TRL reads them", () => {
  const scaled = (scaleRewards: unknown) => grpoOptions({ scaleRewards } as never).scaleRewards;
  assert.deepEqual([scaled(true), scaled(false), scaled("batch")], ["group", "none", "batch"]);
  assert.throws(() => scaled("sometimes"));
});
