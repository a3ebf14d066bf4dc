import assert from "node:assert/strict";
import { checkOptions, METHODS, optionsJsonSchema } from "../../serve/methods.ts";

Deno.test("report_to is a name or a list of names for every method, and what is refused is told with what there is", () => {
  for (const method of METHODS) {
    const problems = (report_to: unknown) =>
      checkOptions(method, { report_to }).problems.filter(({ path }) => path === "report_to");
    for (const value of ["all", "none", null, [], ["jsonl", "wandb"], "tensorboard"]) {
      assert.deepEqual(problems(value), [], JSON.stringify(value));
    }
    assert.deepEqual(problems(["jsonl", "mlflow"]), [{
      path: "report_to",
      message: 'Got ["jsonl","mlflow"]. Expected tensorboard, jsonl, wandb, a list of these, all or none.',
    }]);
    const { properties } = optionsJsonSchema(method) as { properties: Record<string, { default: unknown }> };
    assert.equal(properties.report_to.default, "none");
  }
});
