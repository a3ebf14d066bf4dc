/** Opening model files: names without the model's prefix, as the oldest checkpoints of GPT-2 have them. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { openModel } from "../../src/model/open.ts";
import { writeSafetensors } from "../../src/model/safetensors.ts";
import { golden, withDirectory } from "../assets.ts";

Deno.test("files of the bare model are read as those of the language model", () =>
  withDirectory((directory) => {
    const whole = golden("models/tiny-llama"), { weights } = openModel(whole);
    const names = [...weights.tensors.keys()];
    assert.ok(names.includes("lm_head.weight") && names.includes("model.norm.weight"));
    copyFileSync(join(whole, "config.json"), join(directory, "config.json"));
    writeSafetensors(
      join(directory, "model.safetensors"),
      names.map((name) => {
        const { shape } = weights.tensors.get(name)!;
        return [name.replace(/^model\./, ""), { shape, data: () => weights.read(name) }] as const;
      }),
    );
    const bare = openModel(directory).weights;
    assert.deepEqual([...bare.tensors.keys()].sort(), names.sort());
    for (const name of names) assert.deepEqual(bare.read(name), weights.read(name), name);
  }));
