import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { parseExamples } from "../../src/data/formats.ts";
import { readDataset, readRows } from "../../src/data/rows.ts";
import { golden, withDirectory } from "../assets.ts";

Deno.test("a CSV file that pandas wrote has quoted texts, labels and margins", async () => {
  const rows = await readDataset(golden("datasets/files/unpaired.csv"));
  assert.deepEqual(rows.map(({ columns }) => columns), [
    { prompt: 'a, "b"', completion: " x", label: true, margin: 0.5 },
    { prompt: "two\nlines", completion: " y", label: false, margin: null },
    { prompt: "ü", completion: " 3", label: true, margin: 2 },
  ]);
  assert.equal(rows[2].where, "unpaired.csv row 3");
  assert.equal(parseExamples(rows).type, "unpaired preference");
});

Deno.test("rows of CSV, of lines and of arrays are the same, gzipped or not; conversations are JSON", () =>
  withDirectory(async (directory) => {
    const messages = [{ role: "user", content: 'say "x",\n🙂' }, { role: "assistant", content: "x" }];
    const objects = Array.from({ length: 400 }, (_, i) => ({ messages, note: `é ${i}` }));
    const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
    const lines = objects.map((row) => `${quote(JSON.stringify(row.messages))},${quote(row.note)}`);
    const csv = "\ufeffmessages,note\r\n" + lines.join("\r\n") + "\r\n";
    Deno.writeTextFileSync(join(directory, "a.csv"), csv);
    Deno.writeFileSync(join(directory, "b.csv.gz"), gzipSync(csv));
    for (const name of ["a.csv", "b.csv.gz"]) {
      const rows = await readDataset(join(directory, name));
      assert.deepEqual(rows.map(({ columns }) => columns), objects);
    }
    for await (const row of readRows(join(directory, "b.csv.gz"))) {
      assert.equal(row.where, "b.csv.gz row 1");
      break;
    }
    const prompts = "prompt,completion\n" + quote('[{"role": "user", "content": "a"}]') + ",[1] is text\n";
    Deno.writeTextFileSync(join(directory, "c.csv"), prompts);
    assert.deepEqual((await readDataset(join(directory, "c.csv")))[0].columns, {
      prompt: [{ role: "user", content: "a" }],
      completion: "[1] is text",
    });
  }));

Deno.test("what is not CSV is refused with its place", () =>
  withDirectory(async (directory) => {
    const refuse = async (text: string, message: RegExp) => {
      const path = join(directory, "x.csv");
      Deno.writeTextFileSync(path, text);
      await assert.rejects(readDataset(path), message);
    };
    await refuse(
      "a,b\n1,2\n3\n",
      /^Error: Cannot read x\.csv: it is not valid CSV \(.*length is 2, got 1 on line 3\)/,
    );
    await refuse(
      'a,b\n1,"2\n',
      /^Error: Cannot read x\.csv: it is not valid CSV \(Quote Not Closed/,
    );
    await refuse("a,a\n1,2\n", /^Error: Cannot read x\.csv: its header names the column "a" twice\.$/);
    await refuse("a,b\n", /x\.csv: it has no rows\.$/);
    await refuse(
      "messages\n[{'role': 'user'}]\n",
      /^Error: Cannot read x\.csv row 1: "messages" is not valid JSON .*Expected a list of messages/,
    );
    Deno.writeTextFileSync(join(directory, "y.csv.gz"), "a,b\n1,2\n");
    await assert.rejects(
      readDataset(join(directory, "y.csv.gz")),
      /^Error: Cannot read y\.csv\.gz: failed to unzip it/,
    );
  }));
