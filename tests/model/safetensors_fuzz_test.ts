/** Damaged safetensors files and shard indices: a clear error, or the tensors that the damage left alone; never more memory than the file. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { JsonObject } from "../../src/model/json_file.ts";
import { readSafetensors, type Weights, writeSafetensors } from "../../src/model/safetensors.ts";
import { openWeights } from "../../src/model/weights.ts";
import { type RandomStream, randomStream } from "../../src/random/stream.ts";
import { withDirectory } from "../assets.ts";
import { mutateJson, mutateText } from "../fuzz.ts";

const MUTATIONS = 2400;

/** Tensors of several types in one file, as its header and its data. */
function smallFile(): { header: JsonObject; data: Uint8Array<ArrayBuffer> } {
  // The integers, from byte 86 on, are small.
  const data = Uint8Array.from({ length: 152 }, (_, i) => i < 86 || i % 8 === 6 ? 7 * i % 61 : 0);
  const header = {
    __metadata__: { format: "pt", note: "ä" },
    "layer.0.weight": { dtype: "F32", shape: [3, 5], data_offsets: [0, 60] },
    "layer.0.bias": { dtype: "F16", shape: [5], data_offsets: [60, 70] },
    "layer.1.weight": { dtype: "BF16", shape: [2, 2, 2], data_offsets: [70, 86] },
    empty: { dtype: "F32", shape: [0, 4], data_offsets: [86, 86] },
    ids: { dtype: "I64", shape: [8], data_offsets: [86, 150] },
    mask: { dtype: "BOOL", shape: [2], data_offsets: [150, 152] },
  };
  return { header, data };
}

function assemble(header: string, data: Uint8Array, length?: bigint): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

/** A damaged file: its JSON, the text of it, single bytes anywhere, the length of the header, or the end. */
function damaged(random: RandomStream): Uint8Array<ArrayBuffer> {
  const { header, data } = smallFile(), text = JSON.stringify(header);
  const whole = assemble(text, data), number = () => random.integer(2 ** 32) / 2 ** random.integer(33);
  switch (random.integer(6)) {
    case 0:
    case 1:
      return assemble(JSON.stringify(mutateJson(header, random)), data);
    case 2:
      return assemble(mutateText(text, random), data);
    case 3:
      return assemble(text, data, BigInt(Math.floor(number())) << BigInt(random.integer(33)));
    case 4:
      return whole.slice(0, random.integer(whole.length));
    default:
      for (let changes = 1 + random.integer(4); changes > 0; changes--) {
        whole[random.integer(whole.length)] = random.integer(256);
      }
      return whole;
  }
}

/** Reads every tensor of what was opened; all that is allocated for them is in the file. */
function readAll(weights: Weights, size: number): void {
  let total = 0;
  for (const [name, { dtype, shape, elements, bytes, offset }] of weights.tensors) {
    assert.ok(Number.isSafeInteger(elements) && offset + bytes <= size, name);
    assert.equal(shape.reduce((a, b) => a * b, 1), elements);
    total += bytes;
    const isFloat = /^(BF16|F16|F32|F64)$/.test(dtype);
    const values = isFloat ? weights.read(name) : weights.readIntegers(name);
    assert.equal(values.length, elements);
  }
  assert.ok(total <= size);
}

/** Runs `read` and returns whether it succeeded; anything but an error for people fails. */
function survives(what: string, read: () => void): boolean {
  try {
    read();
    return true;
  } catch (error) {
    assert.ok(!(error instanceof assert.AssertionError), `${what}: ${error}`);
    const { message } = error as Error;
    assert.ok(/^Cannot read .*[.?]$/s.test(message), `${what}: ${error}`);
    assert.ok(message.length < 1000, `${what}: a message of ${message.length} characters`);
    return false;
  }
}

/** Fails when a typed array or buffer larger than `most` bytes is made while `run` runs. */
function withoutLargeArrays(most: number, run: () => void): void {
  const plain = { Uint8Array, ArrayBuffer };
  const watched = <T extends Uint8ArrayConstructor | ArrayBufferConstructor>(constructor: T): T =>
    new Proxy(constructor, {
      construct(target, args, newTarget) {
        assert.ok(typeof args[0] !== "number" || args[0] <= most, `${args[0]} bytes are asked for`);
        return Reflect.construct(target, args, newTarget);
      },
    });
  try {
    globalThis.Uint8Array = watched(Uint8Array);
    globalThis.ArrayBuffer = watched(ArrayBuffer);
    run();
  } finally {
    Object.assign(globalThis, plain);
  }
}

Deno.test(`${MUTATIONS} damaged safetensors files are refused or read for what they are`, () =>
  withDirectory((directory) => {
    const path = join(directory, "model.safetensors"), { header, data } = smallFile();
    Deno.writeFileSync(path, assemble(JSON.stringify(header), data));
    readAll(readSafetensors(path), 1e4);
    let read = 0;
    const begin = performance.now();
    for (let i = 0; i < MUTATIONS; i++) {
      const bytes = damaged(randomStream(11, "safetensors", i));
      Deno.writeFileSync(path, bytes);
      withoutLargeArrays(bytes.length, () => {
        read += Number(survives(`mutation ${i}`, () => readAll(readSafetensors(path), bytes.length)));
      });
    }
    assert.ok(performance.now() - begin < 30_000);
    assert.ok(read > MUTATIONS / 40 && read < MUTATIONS / 2, `${read} of ${MUTATIONS} were read`);
  }));

Deno.test("600 damaged indices of shards are refused or read for what they are", () =>
  withDirectory((directory) => {
    const tensor = (value: number) => ({ shape: [2], data: Float32Array.of(value, -value) });
    writeSafetensors(join(directory, "model-1.safetensors"), [["a", tensor(1)], ["b", tensor(2)]]);
    writeSafetensors(join(directory, "model-2.safetensors"), [["c", tensor(3)]]);
    const index = {
      metadata: { total_size: 24 },
      weight_map: { a: "model-1.safetensors", b: "model-1.safetensors", c: "model-2.safetensors" },
    };
    const path = join(directory, "model.safetensors.index.json");
    let read = 0;
    for (let i = 0; i < 600; i++) {
      const random = randomStream(12, "index", i), text = JSON.stringify(index);
      const changed = i % 3 === 0 ? mutateText(text, random) : JSON.stringify(mutateJson(index, random));
      Deno.writeTextFileSync(path, changed);
      const fine = survives(`mutation ${i}: ${changed.slice(0, 200)}`, () => {
        const weights = openWeights(directory);
        // An index that is read says what is in the files that it names: all of their tensors, with their values.
        const names = Object.keys(JSON.parse(changed).weight_map).sort();
        assert.deepEqual([...weights.tensors.keys()].sort(), names);
        for (const name of names) {
          const value = "abc".indexOf(name) + 1;
          assert.deepEqual([...weights.read(name)], [value, -value]);
        }
      });
      read += Number(fine);
    }
    assert.ok(read > 30 && read < 400, `${read} of 600 were read`);
  }));
