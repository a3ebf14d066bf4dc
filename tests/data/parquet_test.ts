import assert from "node:assert/strict";
import { readDataset, readRows } from "../../src/data/rows.ts";
import { golden } from "../assets.ts";

const file = (name: string) => golden(`datasets/files/${name}`);
const expected: Record<string, unknown>[] = JSON.parse(Deno.readTextFileSync(file("chats.json")));

for (const codec of ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "v2"]) {
  Deno.test(`conversations in Parquet (${codec}) are what pyarrow wrote`, async () => {
    const rows = await readDataset(file(`chats-${codec}.parquet`));
    assert.deepEqual(rows.map(({ columns }) => columns), expected);
    assert.equal(rows[3].where, `chats-${codec}.parquet row 4`);
  });
}

Deno.test("columns of differences and columns of runs are read", async () => {
  assert.deepEqual(
    (await readDataset(file("delta.parquet"))).map(({ columns }) => columns),
    expected.map(({ score, n, tag }) => ({ score, n, tag })),
  );
  const rows = await readDataset(file("runs.parquet"));
  assert.equal(rows.length, 3000);
  assert.deepEqual(rows[2999].columns, { prompt: "p2999", label: true, empty: null });
});

Deno.test("reading may stop early, and a file that is not Parquet is refused", async () => {
  for await (const row of readRows(file("runs.parquet"))) {
    assert.equal(row.columns.prompt, "p0");
    break;
  }
  const path = await Deno.makeTempFile({ suffix: ".parquet" });
  try {
    await Deno.writeTextFile(path, "PAR1 and then something else");
    await assert.rejects(readDataset(path), /^Error: Cannot read .*\.parquet: it is not a Parquet file\.$/);
    await Deno.writeTextFile(path, "PAR1");
    await assert.rejects(readDataset(path), /^Error: Cannot read .*: it is damaged: it has only 4 bytes\.$/);
  } finally {
    await Deno.remove(path);
  }
});
