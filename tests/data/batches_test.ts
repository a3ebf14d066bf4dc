import assert from "node:assert/strict";
import { bucket, epochOrder, FIRST_ROW, packBatch, takeBatch } from "../../src/data/batches.ts";
import { randomStream } from "../../src/random/stream.ts";

Deno.test("packed documents keep every invariant", () => {
  const rng = randomStream(1, "documents");
  for (let round = 0; round < 60; round++) {
    const documents = Array.from(
      { length: 1 + rng.integer(12) },
      () => Array.from({ length: 1 + rng.integer(40) }, () => 1 + rng.integer(50)),
    );
    const batch = packBatch(documents);
    const { tokens, ids, positions, starts, ends, order, first, lengths } = batch;
    assert.equal(bucket(tokens), tokens);
    assert.deepEqual([...lengths], documents.map((document) => document.length));
    const owner = new Array(tokens).fill(-1);
    for (const [index, document] of documents.entries()) {
      assert.equal(first[index] % 8, 0);
      for (const [place, id] of document.entries()) {
        const at = first[index] + place;
        assert.equal(owner[at], -1);
        owner[at] = index;
        assert.deepEqual(
          [ids[at], positions[at], starts[at], ends[at]],
          [id, place, first[index], first[index] + document.length],
        );
      }
    }
    for (let at = 0; at < tokens; at++) {
      if (owner[at] < 0) assert.deepEqual([ids[at], positions[at], starts[at], ends[at]], [0, 0, at, at + 1]);
      if (at > 0) assert.ok(starts[at] >= starts[at - 1] && ends[at] >= ends[at - 1]);
      // i sees j exactly when j is seen by i.
      for (let key = Math.max(0, at - 50); key <= at; key++) assert.equal(starts[at] <= key, at < ends[key]);
    }
    const expected = [...ids.keys()].sort((a, b) => ids[a] - ids[b] || a - b);
    assert.deepEqual([...order], expected);
  }
  assert.throws(() => packBatch([[1], []]), /Document 1 of the batch has no tokens/);
  assert.equal(packBatch([[1, 2, 3]], (n) => n).tokens, 8);
});

Deno.test("lengths are rounded to multiples of 64 up to 1024, then of 256", () => {
  assert.deepEqual([0, 1, 64, 65, 1000, 1024, 1025, 1280, 1281, 5000].map(bucket), [
    64,
    64,
    64,
    128,
    1024,
    1024,
    1280,
    1280,
    1536,
    5120,
  ]);
});

Deno.test("an epoch's order depends on seed and epoch, or is the file's", () => {
  assert.deepEqual([...epochOrder(1, 0, 5, false)], [0, 1, 2, 3, 4]);
  const orders = [epochOrder(1, 0, 50, true), epochOrder(1, 1, 50, true), epochOrder(2, 0, 50, true)];
  assert.equal(new Set(orders.map(String)).size, 3);
  for (const order of orders) assert.deepEqual([...order].sort((a, b) => a - b), [...Array(50).keys()]);
  assert.deepEqual(epochOrder(1, 1, 50, true), orders[1]);
});

Deno.test("a cursor that went through JSON continues with the same batches, each row once per epoch", () => {
  const walk = { seed: 3, rows: 11, batchSize: 4, shuffle: true };
  const batches: number[][] = [];
  let cursor = FIRST_ROW;
  for (let step = 0; step < 9; step++) {
    const { rows, next } = takeBatch(cursor, walk);
    batches.push([...rows]);
    cursor = JSON.parse(JSON.stringify(next));
  }
  assert.deepEqual(batches.map((rows) => rows.length), [4, 4, 3, 4, 4, 3, 4, 4, 3]);
  for (let epoch = 0; epoch < 3; epoch++) {
    const rows = batches.slice(epoch * 3, epoch * 3 + 3).flat();
    assert.deepEqual(rows, [...epochOrder(3, epoch, 11, true)]);
  }
  assert.deepEqual(cursor, { epoch: 3, row: 0 });
  assert.throws(
    () => takeBatch({ epoch: 0, row: 11 }, walk),
    /the dataset has 11\. It belongs to another dataset/,
  );
  assert.throws(() => takeBatch(FIRST_ROW, { ...walk, rows: 0 }), /has no rows/);
});
