import assert from "node:assert/strict";
import { pack, type PackingStrategy } from "../../src/data/packing.ts";
import { golden } from "../assets.ts";

interface Case {
  lengths: number[];
  capacity: number;
  strategy: PackingStrategy;
  /** First id and lengths of the documents of each row; wrapped rows know only their own length. */
  rows: [number, number[]][];
  ids: number[][] | null;
}

const cases: Case[] = JSON.parse(Deno.readTextFileSync(golden("datasets/packing.json")));

/** Token `t` of document `d` has the id that the goldens gave it: tokens are numbered through. */
function packedRows({ lengths, capacity, strategy }: Case) {
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
  const packing = pack(lengths, capacity, strategy);
  return Array.from(
    { length: packing.length },
    (_, row) =>
      packing.row(row).map(({ document, begin, end }) =>
        Array.from({ length: end - begin }, (_, t) => starts[document] + begin + t)
      ),
  );
}

for (const strategy of ["bfd", "bfd_split", "wrapped"]) {
  Deno.test(`${strategy}: rows, ids and boundaries are those of TRL's pack_dataset`, () => {
    const own = cases.filter((one) => one.strategy === strategy);
    assert.equal(own.length, 5);
    for (const one of own) {
      const rows = packedRows(one);
      assert.deepEqual(
        rows.map((
          row,
        ) => [row[0][0], strategy === "wrapped" ? [row.flat().length] : row.map((ids) => ids.length)]),
        one.rows,
      );
      if (one.ids) assert.deepEqual(rows.map((row) => row.flat()), one.ids);
    }
  });
}

Deno.test("empty documents take no room, and nothing packs into nothing", () => {
  for (const strategy of ["bfd", "bfd_split", "wrapped"] as const) {
    assert.equal(pack([], 4, strategy).length, 0);
    const rows = pack([0, 3, 0, 5, 0], 4, strategy);
    const pieces = Array.from({ length: rows.length }, (_, row) => rows.row(row)).flat();
    assert.ok(pieces.every(({ begin, end }) => end > begin), strategy);
    assert.equal(pieces.reduce((n, { begin, end }) => n + end - begin, 0), strategy === "bfd" ? 7 : 8);
  }
});
