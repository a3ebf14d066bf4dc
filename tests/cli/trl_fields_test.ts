/** All fields of TRL's configuration classes, by `tests/goldens/src/trl_config_fields.py`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { DESCRIPTIONS } from "../../src/cli/catalogue.ts";
import { fieldsOf } from "../../src/cli/fields.ts";
import { foreignField } from "../../src/cli/foreign_fields.ts";
import { parseOptions } from "../../src/cli/options.ts";
import { camelCase } from "../../src/train/options/names.ts";

const GOLDEN: Record<string, Record<string, unknown>> = JSON.parse(
  Deno.readTextFileSync(new URL("../goldens/trl/config_fields.json", import.meta.url)),
);

/** TRL's classes behind each command: those of `trl sft --config`, and of the trainers that TRL has no command for. */
const CLASSES: [command: keyof typeof DESCRIPTIONS, config: string, script: string][] = [
  ["sft", "SFTConfig", "ScriptArguments"],
  ["reward", "RewardConfig", "ScriptArguments"],
  ["dpo", "DPOConfig", "ScriptArguments"],
  ["kto", "KTOConfig", "ScriptArguments"],
  ["orpo", "ORPOConfig", "ScriptArguments"],
  ["cpo", "CPOConfig", "ScriptArguments"],
  ["grpo", "GRPOConfig", "GRPOScriptArguments"],
  ["rloo", "RLOOConfig", "RLOOScriptArguments"],
  ["online-dpo", "OnlineDPOConfig", "ScriptArguments"],
];

/** A value that no default has, of a kind that the option could have. */
function another(value: unknown): unknown {
  switch (typeof value) {
    case "boolean":
      return !value;
    case "number":
      return value + 3;
    default:
      return "something else";
  }
}

for (const [command, config, script] of CLASSES) {
  const schema: z.ZodType = DESCRIPTIONS[command].schema;
  const trl = { ...GOLDEN.TrainingArguments, ...GOLDEN[config], ...GOLDEN.ModelConfig, ...GOLDEN[script] };

  Deno.test(`every field of TRL's ${config} is an option of keel ${command}, or has a reason why not`, () => {
    const own = new Set(fieldsOf(schema).flatMap(({ flag, aliases }) => [flag, ...aliases]).map(camelCase));
    const unknown: string[] = [];
    for (const [name, value] of Object.entries(trl)) {
      if (own.has(camelCase(name))) continue;
      const usual = foreignField(name, value), other = foreignField(name, another(value));
      if (!usual || !other) unknown.push(name);
      else {
        assert.equal(usual.action, "ignore", `${name}: ${JSON.stringify(value)}, TRL's default, is refused`);
        assert.ok(usual.reason.length > 10, name);
      }
    }
    assert.deepEqual(unknown, []);
  });

  Deno.test(`a file with all defaults of TRL's ${config} goes through keel ${command}`, () => {
    const directory = Deno.makeTempDirSync({ prefix: "keel-test-" });
    try {
      const path = join(directory, "trl.yaml");
      const file = { ...trl, model_name_or_path: "m", dataset_name: "d", output_dir: "o" };
      // JSON is YAML.
      Deno.writeTextFileSync(path, JSON.stringify(file));
      const { options, warnings } = parseOptions(schema, new Map(), path);
      assert.equal(options.learningRate, GOLDEN[config].learning_rate);
      assert.equal(new Set(warnings).size, warnings.length);
      for (const warning of warnings) assert.match(warning, /^\S+: \w+ has no effect: .{10,}\.$/);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  });
}
