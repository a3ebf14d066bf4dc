import assert from "node:assert/strict";
import { fromJson, toJson } from "../../src/run/json.ts";

Deno.test("numbers that JSON does not know come back as they were", () => {
  const value = { nan: NaN, up: Infinity, down: [-Infinity, -0], plain: 0.1, text: "NaN" };
  const back = fromJson(toJson(value)) as typeof value;
  assert.deepEqual(back, value);
  assert.ok(Object.is(back.down[1], -0));
});

Deno.test("a setting without a value is listed", () => {
  assert.equal(toJson({ saveTotalLimit: undefined }), '{"saveTotalLimit":null}');
});
