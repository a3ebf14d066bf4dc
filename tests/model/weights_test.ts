import assert from "node:assert/strict";
import { join } from "node:path";
import { readSafetensors, writeSafetensors } from "../../src/model/safetensors.ts";
import { openWeights } from "../../src/model/weights.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";

/** Two shards and their index. */
function writeShards(directory: string, map: Record<string, string>): void {
  const tensor = (value: number) => ({ shape: [1], data: Float32Array.of(value) });
  writeSafetensors(join(directory, "model-1.safetensors"), [["a", tensor(1)], ["b", tensor(2)]]);
  writeSafetensors(join(directory, "model-2.safetensors"), [["c", tensor(3)]]);
  Deno.writeTextFileSync(
    join(directory, "model.safetensors.index.json"),
    JSON.stringify({ weight_map: map }),
  );
}

Deno.test("shards are one set of tensors", () =>
  withDirectory((directory) => {
    writeShards(directory, { a: "model-1.safetensors", b: "model-1.safetensors", c: "model-2.safetensors" });
    const weights = openWeights(directory);
    assert.deepEqual([...weights.tensors.keys()].sort(), ["a", "b", "c"]);
    assert.deepEqual(["a", "b", "c"].map((name) => weights.read(name)[0]), [1, 2, 3]);
    assert.throws(() => weights.read("d"), /it has no tensor "d"/);
  }));

Deno.test("an index that does not fit its shards is refused", () =>
  withDirectory((directory) => {
    const refuse = (map: Record<string, string>, message: RegExp) => {
      writeShards(directory, map);
      assert.throws(() => openWeights(directory), message);
    };
    const [one, two] = ["model-1.safetensors", "model-2.safetensors"];
    refuse(
      { a: one, c: two },
      /model-1\.safetensors: it holds tensor "b", but model\.safetensors\.index\.json does not list it/,
    );
    refuse(
      { a: one, b: two, c: two },
      /it holds tensor "b", but model\.safetensors\.index\.json says "model-2\.safetensors"/,
    );
    refuse({ a: one, b: one, c: two, d: two }, /model-2\.safetensors: tensor "d" is missing/);
    refuse({ a: one, b: one, c: "model-3.safetensors" }, /model-3\.safetensors: the file does not exist/);
    refuse(
      { a: "../model-1.safetensors" },
      /"\.\.\/model-1\.safetensors" is not the name of a safetensors file beside it/,
    );
    refuse({ a: "/etc/passwd" }, /is not the name of a safetensors file/);
    refuse({}, /"weight_map" is missing or empty/);
    Deno.removeSync(join(directory, "model.safetensors.index.json"));
    assert.throws(
      () => openWeights(directory),
      /expected model\.safetensors or model\.safetensors\.index\.json/,
    );
  }));

Deno.test("a transformers checkpoint is read", () => {
  const weights = openWeights(golden("models/tiny-llama"));
  assert.equal(weights.tensors.size, 21);
  assert.deepEqual(weights.tensors.get("model.embed_tokens.weight")!.shape, [331, 60]);
  assert.equal(weights.read("model.embed_tokens.weight").length, 331 * 60);
  const tensors = readSafetensors(golden("models/tiny-llama/golden.safetensors"));
  assert.deepEqual(
    [...tensors.readIntegers("gen.attention_mask").subarray(0, 9)].every((value) => value <= 1),
    true,
  );
});

assetTest("a sharded transformers checkpoint equals the whole one", () => {
  const whole = openWeights(asset("goldens/models/tiny-qwen2")),
    shards = openWeights(asset("goldens/models/tiny-qwen2-sharded"));
  assert.deepEqual([...shards.tensors.keys()].sort(), [...whole.tensors.keys()].sort());
  for (const name of whole.tensors.keys()) assert.deepEqual(shards.read(name), whole.read(name));
});

for (const storage of ["bf16", "f16"]) {
  assetTest(`a checkpoint in ${storage} gives PyTorch's checksums`, () => {
    const directory = asset(`goldens/models/tiny-qwen2-${storage}`);
    const weights = openWeights(directory);
    const { weights: sums } = JSON.parse(Deno.readTextFileSync(join(directory, "golden.json")));
    for (const [name, expected] of Object.entries<{ sum: number; abs_sum: number }>(sums)) {
      const values = Float64Array.from(weights.read(name));
      const absolute = values.reduce((a, b) => a + Math.abs(b), 0);
      assert.ok(Math.abs(absolute - expected.abs_sum) <= 1e-6 * expected.abs_sum, name);
      assert.ok(Math.abs(values.reduce((a, b) => a + b, 0) - expected.sum) <= 1e-6 * expected.abs_sum, name);
    }
  });
}
