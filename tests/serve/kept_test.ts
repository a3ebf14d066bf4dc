import assert from "node:assert/strict";
import { join } from "node:path";
import { keepAnswers } from "../../serve/kept.ts";
import { openReader } from "../../src/run/reader.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";

Deno.test("an answer is kept until the run has something new to tell, and a long one is not kept", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "run.db"), store = openStore(path), reader = openReader(path);
    const keep = keepAnswers<{ text: string }>();
    let made = 0;
    const ask = async (question: string, text = question) =>
      (await keep(reader, question, () => Promise.resolve({ text: `${text} ${++made}` }))).text;
    try {
      store.appendMetrics("sft", 1, { loss: 1 });
      assert.deepEqual([await ask("a"), await ask("b"), await ask("a"), await ask("b")], [
        "a 1",
        "b 2",
        "a 1",
        "b 2",
      ]);
      store.appendMetrics("sft", 2, { loss: 1 });
      assert.deepEqual([await ask("a"), await ask("a")], ["a 3", "a 3"]);
      store.turnKnobs("sft", 3, { learning_rate: 0.5 }, { who: "test" });
      assert.equal(await ask("a"), "a 4");
      store.truncateAfter("sft", 1);
      store.appendEvent("sft", 1, "rolled_back", {});
      assert.equal(await ask("a"), "a 5");
      const long = "x".repeat(1 << 18);
      assert.notEqual(await ask("long", long), await ask("long", long));
      for (let i = 0; i < 40; i++) await ask(`${i}`);
      const before = made;
      await ask("39");
      assert.equal(made, before);
      await ask("a");
      assert.equal(made, before + 1);
    } finally {
      reader.close();
      store.close();
    }
  });
});
