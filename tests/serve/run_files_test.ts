import assert from "node:assert/strict";
import { HttpError } from "../../serve/http_error.ts";
import { byteRange } from "../../serve/run_files.ts";
import { checkOptions, METHODS, optionsJsonSchema } from "../../serve/methods.ts";
import { lastLines } from "../../serve/log.ts";
import { withDirectory } from "../assets.ts";

Deno.test("a range of bytes is what RFC 9110 says it is", () => {
  const range = (header: string | undefined, bytes = 10) => {
    const found = byteRange(header, bytes);
    return found && [found.from, found.to];
  };
  assert.deepEqual(range("bytes=0-0"), [0, 0]);
  assert.deepEqual(range("bytes=3-"), [3, 9]);
  assert.deepEqual(range("bytes=-4"), [6, 9]);
  assert.deepEqual(range("bytes=-40"), [0, 9]);
  assert.deepEqual(range("bytes=5-400"), [5, 9]);
  for (
    const ignored of [
      undefined,
      "",
      "bytes=",
      "bytes=-",
      "bytes=0-1,4-5",
      "lines=1-2",
      "bytes=5-4",
      "bytes=x-1",
    ]
  ) {
    assert.equal(range(ignored), undefined, ignored);
  }
  for (const none of ["bytes=10-", "bytes=10-20", "bytes=-0"]) {
    assert.throws(() => range(none), (error: HttpError) => error.status === 416, none);
  }
  assert.throws(() => range("bytes=0-", 0), HttpError);
});

Deno.test("options are checked by TRL's names and by their aliases", () => {
  const { options, problems } = checkOptions("train", {
    beta: 0.2,
    "ppo-steps": 3,
    resume_from_checkpoint: "x",
  });
  assert.deepEqual(options, { kl_coef: 0.2, ppo_steps: 3 });
  assert.deepEqual(problems.map(({ path }) => path), ["resume_from_checkpoint"]);
  assert.match(
    checkOptions("train", { beta: 0.2, kl_coef: 0.1 }).problems[0].message,
    /there twice, also as beta/,
  );
  assert.deepEqual(checkOptions("train", { save_total_limit: 3, sft_dataset: null }).problems, []);
  const required = { model_name_or_path: "m", dataset_name: "d" };
  assert.equal(checkOptions("sft", { ...required, max_length: null }).options.max_length, null);
  for (const method of METHODS) {
    for (
      const property of Object.values(
        optionsJsonSchema(method).properties as Record<string, { description: string }>,
      )
    ) {
      assert.ok(property.description);
    }
  }
});

Deno.test("the end of a log is its last lines, however long it is", async () => {
  await withDirectory((directory) => {
    const path = `${directory}/log.txt`;
    assert.deepEqual(lastLines(path, 3), []);
    Deno.writeTextFileSync(path, "");
    assert.deepEqual(lastLines(path, 3), []);
    Deno.writeTextFileSync(path, "one\ntwo");
    assert.deepEqual(lastLines(path, 3), ["one", "two"]);
    Deno.writeTextFileSync(path, Array.from({ length: 100_000 }, (_, i) => `line ${i}\n`).join(""));
    assert.deepEqual(lastLines(path, 2), ["line 99998", "line 99999"]);
  });
});
