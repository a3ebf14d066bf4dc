import assert from "node:assert/strict";
import { dequantize } from "../../src/model/ggml_types.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { openGguf } from "../../src/model/open_gguf.ts";
import { writeGguf } from "../../src/model/write_gguf.ts";
import { asset, withDirectory } from "../assets.ts";
import { smollm2Test } from "../smollm2.ts";
import { tinyLlama } from "./tiny_gguf.ts";

/** A row of gguf_tensors.json: name, type, sizes fastest first, offset, bytes, Hugging Face name, sum, sum of magnitudes, first values. */
type Reference = [string, string, number[], number, number, string, number, number, number[]];

smollm2Test("every tensor of SmolLM2's file has its type, its shape and its values", (path) => {
  const { tensors }: { tensors: Reference[] } = JSON.parse(
    Deno.readTextFileSync(asset("goldens/smollm2/gguf_tensors.json")),
  );
  const { weights } = openGguf(path);
  assert.equal(weights.tensors.size, tensors.length);
  for (const [, type, sizes, offset, bytes, name, sum, magnitudes, first] of tensors) {
    const { dtype, shape, ...place } = weights.tensors.get(name)!;
    assert.deepEqual({ dtype, shape, ...place }, {
      dtype: type,
      shape: [...sizes].reverse(),
      elements: sizes.reduce((a, b) => a * b, 1),
      offset,
      bytes,
    });
    const values = weights.read(name);
    let total = 0, size = 0;
    for (const value of values) {
      total += value;
      size += Math.abs(value);
    }
    // Nine digits were kept. The first row stays the first whatever the order of the others.
    assert.ok(
      Math.abs(total - sum) < 1e-8 * magnitudes && Math.abs(size - magnitudes) < 1e-8 * magnitudes,
      name,
    );
    for (const [i, value] of first.entries()) {
      assert.ok(Math.abs(values[i] - value) <= 1e-8 * Math.abs(value));
    }
  }
});

smollm2Test("rows of SmolLM2's q are the file's as w.reshape(heads, hd/2, 2, in).swapaxes(1, 2)", (path) => {
  const { weights } = openGguf(path);
  const name = "model.layers.3.self_attn.q_proj.weight", heads = 9, half = 32;
  const stored = dequantize("Q4_1", readGguf(path).readBlocks("blk.3.attn_q.weight"));
  const read = weights.read(name);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < half; i++) {
      for (const part of [0, 1]) {
        const ours = (head * 2 + part) * half + i, theirs = (head * half + i) * 2 + part;
        assert.deepEqual(
          read.subarray(ours * 576, ours * 576 + 576),
          stored.subarray(theirs * 576, theirs * 576 + 576),
        );
      }
    }
  }
});

smollm2Test("blocks of some rows are those rows of the whole, in the same order", (path) => {
  const { weights } = openGguf(path);
  for (const part of ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"]) {
    const name = `model.layers.7.${part}.weight`;
    const [rows, width] = weights.tensors.get(name)!.shape;
    const whole = weights.read(name);
    for (const [first, count] of [[0, rows], [0, 1], [rows - 1, 1], [37, 70], [rows, 0]]) {
      const { type, bytes } = weights.readBlocks(name, first, count);
      assert.deepEqual(dequantize(type, bytes), whole.slice(first * width, (first + count) * width));
    }
  }
});

Deno.test("what cannot be read is said: integers, blocks of Gemma's norms, tensors that are not there", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const { config, weights } = tinyLlama({ model_type: "gemma", hidden_act: "gelu_pytorch_tanh" });
    writeGguf(path, { config, weights, type: "F32" });
    const read = openGguf(path).weights;
    assert.throws(() => read.readIntegers("model.norm.weight"), /holds F32\. Expected integers/);
    assert.throws(() => read.readBlocks("model.norm.weight", 0, 1), /Cannot read the blocks .* with 1 added/);
    assert.throws(() => read.read("nothing"), /Cannot read .*model\.gguf: it has no tensor "nothing"/);
    assert.equal(read.metadata["general.architecture"], "gemma");
  }));
