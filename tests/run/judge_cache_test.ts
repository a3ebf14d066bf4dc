/** What commands keep in run.db beside metrics: a judge's answers, and rows that are finished. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openFinishedRows } from "../../src/run/finished_rows.ts";
import { openJudgeAnswers } from "../../src/run/judge_cache.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";

Deno.test("answers outlive the process, beside a store that is in use", () =>
  withDirectory((directory) => {
    const path = join(directory, "run.db"), store = openStore(path);
    const answers = openJudgeAnswers(path);
    assert.equal(answers.get("a"), undefined);
    answers.set("a", "A");
    store.appendMetrics("label", 1, { pairs: 1 });
    answers.set("a", "tie");
    answers.set("é\0", "日本");
    const other = openJudgeAnswers(path);
    assert.deepEqual([other.get("a"), other.get("é\0"), other.count()], ["tie", "日本", 2]);
    other.close();
    answers.close();
    assert.equal(store.metrics("label").length, 1);
    store.close();
    assert.throws(
      () => openJudgeAnswers(join(directory, "none", "run.db")),
      /^Error: Cannot use .*none\/run\.db/,
    );
  }));

Deno.test("finished rows come back in their order, all or none of a group", () =>
  withDirectory((directory) => {
    const path = join(directory, "run.db"), rows = openFinishedRows<{ n: number }>(path);
    const numbers = Array.from({ length: 700 }, (_, i) => (i * 389) % 700);
    rows.add(numbers.map((row) => ({ row, value: { n: row / 3 } })));
    rows.add([{ row: 5, value: { n: NaN } }]);
    const broken = {
      get n(): number {
        throw new Error("no number");
      },
    };
    assert.throws(
      () => rows.add([{ row: 1000, value: { n: 1 } }, { row: 1001, value: broken }]),
      /no number/,
    );
    assert.deepEqual([rows.count(), rows.has(0), rows.has(699), rows.has(1000)], [700, true, true, false]);
    rows.close();
    const again = openFinishedRows<{ n: number }>(path);
    const expected = Array.from({ length: 700 }, (_, row) => ({ n: row === 5 ? NaN : row / 3 }));
    assert.deepEqual(Array.from(again.all()), expected);
    again.close();
  }));
