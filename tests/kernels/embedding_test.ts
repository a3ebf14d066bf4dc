import assert from "node:assert/strict";
import { embedding, embeddingBackward } from "../../kernels/embedding.ts";
import { OUTSIDE, run, unpadded } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

/** Token indices sorted by id, equal ids in token order. */
const sortById = (ids: Uint32Array) =>
  Uint32Array.from([...ids.keys()].sort((a, b) => ids[a] - ids[b] || a - b));

testOnProfiles("an embedding picks rows and its gradient sums them by id", async (gpu) => {
  for (
    const [tokens, vocab, cols] of [[1, 1, 1], [7, 5, 3], [70, 11, 36], [129, 300, 13], [40, 1, 8], [
      5,
      3,
      1024,
    ]]
  ) {
    const { floats, below } = random(tokens + vocab + cols);
    const table = floats(vocab * cols), dy = floats(tokens * cols), old = floats(vocab * cols);
    const ids = Uint32Array.from({ length: tokens }, () => below(vocab));
    const above = floats(tokens * cols);
    const outside = { extraRows: 2, outside: OUTSIDE };
    const data = {
      ids,
      order: sortById(ids),
      table: stored(table, vocab, cols, { extraRows: 2 }),
      dy: stored(dy, tokens, cols, { extraRows: 2 }),
      y: stored(above, tokens, cols, outside),
      added: stored(above, tokens, cols, outside),
      dtable: stored(old, vocab, cols, outside),
    };
    const shape = { tokens, vocab, cols };
    const got = await run(gpu, data, ({ ids, order, table, dy, y, added, dtable }) => [
      embedding(gpu.profile, { ids, table, y }, shape),
      embedding(gpu.profile, { ids, table, y: added }, shape, true),
      embeddingBackward(gpu.profile, { ids, order, dy, dtable }, shape),
    ]);
    const name = `[${tokens}, ${vocab}, ${cols}]`;
    const want = Array.from(dy, (_, i) => table[ids[Math.floor(i / cols)] * cols + i % cols]);
    assert.deepEqual([...unpadded(got.y, tokens, cols, name)], want);
    assert.deepEqual(
      unpadded(got.added, tokens, cols, name),
      above.map((v, i) => v + want[i]),
      `${name} accumulated`,
    );
    const dtable = Float64Array.from(old);
    dy.forEach((d, i) => dtable[ids[Math.floor(i / cols)] * cols + i % cols] += d);
    const error = relativeError(unpadded(got.dtable, vocab, cols, name), dtable);
    assert.ok(error < 1e-6, `${name}: the gradient has a relative error of ${error}`);
  }
});

testOnProfiles("a scaled table in parts has the bits of the whole, and its gradient", async (gpu) => {
  for (
    const [tokens, vocab, cols, parts] of [[7, 5, 3, [2, 3]], [129, 300, 13, [16, 100, 1, 183]], [
      40,
      9,
      1024,
      [9],
    ]] as const
  ) {
    const { floats, below } = random(tokens), scale = Math.fround(Math.sqrt(cols));
    const table = floats(vocab * cols), dy = floats(tokens * cols), old = floats(vocab * cols);
    // The last token's id is no row of the table.
    const ids = Uint32Array.from({ length: tokens }, (_, t) => t === tokens - 1 ? vocab + 3 : below(vocab));
    const outside = { extraRows: 2, outside: OUTSIDE };
    const shared = {
      ids,
      order: sortById(ids),
      dy: stored(dy, tokens, cols, { extraRows: 2 }),
      y: stored(dy, tokens, cols, outside),
    };
    let from = 0;
    const slices = parts.map((rows) => {
      const part = { first: from, of: vocab }, range = [from * cols, (from += rows) * cols] as const;
      const [values, before] = [table.subarray(...range), old.subarray(...range)];
      return { rows, shape: { tokens, vocab: rows, cols, scale, part }, values, before };
    });
    const data: Record<string, Float32Array | Uint32Array> = shared;
    slices.forEach(({ rows, values, before }, i) => {
      data[`table${i}`] = stored(values, rows, cols, { extraRows: 2 });
      data[`dtable${i}`] = stored(before, rows, cols, outside);
    });
    const got = await run(gpu, data, ({ ids, order, dy, y, ...memory }) =>
      slices.flatMap(({ shape }, i) => [
        embedding(gpu.profile, { ids, table: memory[`table${i}`], y }, shape),
        embeddingBackward(gpu.profile, { ids, order, dy, dtable: memory[`dtable${i}`] }, shape),
      ]));
    const name = `[${tokens}, ${vocab}, ${cols}]`;
    const rowOf = (t: number) => ids[t] < vocab ? ids[t] : 0;
    const want = dy.map((_, i) => Math.fround(scale * table[rowOf(Math.floor(i / cols)) * cols + i % cols]));
    assert.deepEqual(unpadded(got.y, tokens, cols, name), want);
    const dtable = Float64Array.from(old);
    dy.forEach((d, i) => {
      const id = ids[Math.floor(i / cols)];
      if (id < vocab) dtable[id * cols + i % cols] += scale * d;
    });
    const gradient = slices.flatMap(({ rows }, i) => [...unpadded(got[`dtable${i}`], rows, cols, name)]);
    const error = relativeError(gradient, dtable);
    assert.ok(error < 1e-6, `${name}: the gradient has a relative error of ${error}`);
  }
});

testOnProfiles("an id past the vocabulary reads row 0 and gets no gradient", async (gpu) => {
  const ids = new Uint32Array([2, 9, 0, 0xffffffff]);
  const table = new Float32Array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const shape = { tokens: 4, vocab: 3, cols: 4 };
  const data = {
    ids,
    order: sortById(ids),
    table,
    y: new Float32Array(16),
    dy: new Float32Array(16).fill(1),
    dtable: new Float32Array(16),
  };
  const got = await run(gpu, data, ({ ids, order, table, y, dy, dtable }) => [
    embedding(gpu.profile, { ids, table, y }, shape),
    embeddingBackward(gpu.profile, { ids, order, dy, dtable }, shape),
  ]);
  assert.deepEqual([...got.y], [9, 10, 11, 12, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]);
  assert.deepEqual([...got.dtable], [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
});
