/** Every form of storage: what kernels read from it is what the file format says, and products with it are those with its numbers. */
import assert from "node:assert/strict";
import { embedding } from "../../kernels/embedding.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul.ts";
import { type Storage, STORAGES, storedStride, storedWords } from "../../kernels/storage.ts";
import { unpack } from "../../kernels/unpack.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { padBlocks } from "../../src/model/frozen.ts";
import { dequantize, ggmlBytes } from "../../src/model/ggml_types.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

/** A stored matrix of random bits, all scales of which are ordinary numbers, and its values. */
function randomStored(storage: Storage, rows: number, cols: number, seed: number) {
  const { below, float } = random(seed);
  const elements = STORAGES[storage].elements, width = Math.ceil(cols / elements) * elements;
  const length = ggmlBytes(storage, width), block = ggmlBytes(storage, elements);
  const perRow = storedWords(storage, 1, cols) * 4;
  const bytes = new Uint8Array(rows * perRow), values = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    const row = Uint8Array.from({ length }, () => below(256)), view = new DataView(row.buffer);
    if (elements === 4) {
      for (let c = 0; c < width; c++) {
        const x = c < cols ? float() : 0;
        if (storage === "F16") view.setFloat16(2 * c, x, true);
        else view.setUint16(2 * c, new Uint32Array(new Float32Array([x]).buffer)[0] >>> 16, true);
      }
    }
    for (let at = 0; elements > 4 && at < length; at += block) {
      const scaleAt = storage === "Q6_K"
        ? [208]
        : ["Q4_1", "Q5_1", "Q4_K", "Q5_K"].includes(storage)
        ? [0, 2]
        : [0];
      for (const offset of scaleAt) view.setFloat16(at + offset, 0.02 * float(), true);
    }
    values.set(dequantize(storage, row).subarray(0, cols), r * cols);
    padBlocks(storage, row, bytes.subarray(r * perRow, (r + 1) * perRow));
  }
  return { words: new Uint32Array(bytes.buffer), values };
}

const STORED = (Object.keys(STORAGES) as Storage[]).filter((storage) => storage !== "F32");
const SHAPES: Record<number, [rows: number, cols: number][]> = {
  4: [[7, 9], [33, 20]],
  32: [[7, 64], [37, 96]],
  256: [[5, 256], [34, 512]],
};

for (const storage of STORED) {
  testOnProfiles(`${storage} is read as the format says`, async (gpu) => {
    for (const [rows, cols] of SHAPES[STORAGES[storage].elements]) {
      const { words, values } = randomStored(storage, rows, cols, rows);
      const x = upload(gpu, words), ld = rowStride(cols);
      const y = upload(gpu, new Float32Array((rows + 2) * ld).fill(7));
      runOnce(gpu, [unpack(gpu.profile, { x, y }, { rows, cols, storage, first: 2 })]);
      const got = await readFloats(gpu, y);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < padded(cols); c++) {
          const want = c < cols ? values[r * cols + c] : 0, have = got[(r + 2) * ld + c];
          assert.ok(
            Math.abs(have - want) <= 3e-7 * Math.max(Math.abs(want), 0.3),
            `row ${r}, column ${c}: ${have}, not ${want}`,
          );
        }
      }
      assert.ok(got.subarray(0, 2 * ld).every((value) => value === 7));

      const ids = Uint32Array.from([rows - 1, 0, 3, 3]), out = upload(gpu, new Float32Array(4 * ld));
      const shape = { tokens: 4, vocab: rows, cols, storage, scale: 2 };
      runOnce(gpu, [embedding(gpu.profile, { ids: upload(gpu, ids), table: x, y: out }, shape)]);
      const found = await readFloats(gpu, out);
      ids.forEach((id, t) => {
        for (let c = 0; c < cols; c++) assert.equal(found[t * ld + c], 2 * got[(id + 2) * ld + c]);
      });
    }
  });

  testOnProfiles(`products with ${storage} are those with its numbers`, async (gpu) => {
    const { elements } = STORAGES[storage];
    for (const [rows, cols] of SHAPES[elements]) {
      for (const m of [1, 5, 34]) {
        for (const trans of ["nt", "nn"] as const) {
          // nt: B [n, k] = [rows, cols]; nn: B [k, n] = [rows, cols].
          const [n, k] = trans === "nt" ? [rows, cols] : [cols, rows];
          const { words, values } = randomStored(storage, rows, cols, m);
          const a = random(m + 1).floats(m * k);
          const buffers = {
            a: upload(gpu, stored(a, m, k, { extraRows: 40 })),
            b: upload(gpu, words),
            c: upload(gpu, new Float32Array(m * rowStride(n))),
          };
          runOnce(gpu, [matmul(gpu.profile, buffers, { trans, m, n, k, storage })]);
          const c = await readFloats(gpu, buffers.c), got: number[] = [], want: number[] = [];
          for (let i = 0; i < m; i++) {
            for (let j = 0; j < n; j++) {
              let sum = 0;
              for (let s = 0; s < k; s++) {
                sum += a[i * k + s] * values[trans === "nt" ? j * cols + s : s * cols + j];
              }
              want.push(sum);
              got.push(c[i * rowStride(n) + j]);
            }
          }
          const error = relativeError(got, want);
          assert.ok(error < 1e-6, `${trans} ${m}×${n}×${k}: relative error ${error}`);
        }
      }
    }
  });
}

testOnProfiles("a row alone has the bits that it has among others, in every form", async (gpu) => {
  for (const storage of STORED) {
    const [n, k] = SHAPES[STORAGES[storage].elements][1];
    const a = random(9).floats(34 * k), { words } = randomStored(storage, n, k, 3);
    const rowsOf = async (m: number) => {
      const buffers = {
        a: upload(gpu, stored(a.subarray(0, m * k), m, k, { extraRows: 40 })),
        b: upload(gpu, words),
        c: upload(gpu, new Float32Array(m * rowStride(n))),
      };
      runOnce(gpu, [matmul(gpu.profile, buffers, { trans: "nt", m, n, k, storage })]);
      return (await readFloats(gpu, buffers.c)).subarray(0, n);
    };
    const alone = await rowsOf(1);
    for (const m of [3, 8, 34]) assert.deepEqual(await rowsOf(m), alone, `${storage}, ${m} rows`);
  }
});

Deno.test("rows that are not whole blocks are refused", () => {
  assert.throws(
    () => storedStride("Q8_0", 48),
    /Rows of 48 numbers cannot be stored as Q8_0; it takes multiples of 32/,
  );
});
