import assert from "node:assert/strict";
import { join } from "node:path";
import { checkOptions, METHODS, optionsJsonSchema } from "../../serve/methods.ts";
import { createServer } from "../../serve/server.ts";
import { withDirectory } from "../assets.ts";
import { client } from "./server.ts";

/** Methods that learn from rewards. */
const REWARDED = METHODS.filter((method) =>
  "reward_funcs" in (optionsJsonSchema(method).properties as Record<string, unknown>)
);

/** What a request may not ask for by itself, and what is said of it. */
const GUARDED: [name: string, value: unknown, why: RegExp][] = [
  ["reward_url", "http://evil.example/score", /send prompts and completions to this address/],
  ["rewardUrl", "http://evil.example/score", /send prompts and completions to this address/],
  ["judge_url", "http://evil.example/v1", /the judge's key to this address/],
  ["judge_rubric", "/etc/passwd", /send this file to the judge/],
  ["judge_api_key_env", "HF_TOKEN", /send this variable to the judge/],
  ["reward_funcs", "/tmp/evil.ts", /"\/tmp\/evil\.ts" is no built-in reward/],
  ["reward-funcs", ["accuracy_reward", "evil.MJS"], /"evil\.MJS"/],
  ["reward_funcs", ["accuracy_reward:x.js"], /accuracy_reward:x\.js/],
  ["reward_funcs", "http://evil.example/evil.ts", /run a file as code/],
  ["reward_funcs", "evil.ts,accuracy_reward", /run a file as code/],
  ["reward_funcs", "evil", /Built-in are accuracy_reward/],
];

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

Deno.test("a request names no code and no server of rewards or judges, unless the server was started so", () => {
  for (const method of ["ppo", "grpo", "online-dpo"] as const) assert.ok(REWARDED.includes(method));
  const needed = { model_name_or_path: "m", dataset_name: "d" };
  for (const method of REWARDED) {
    for (const [name, value, why] of GUARDED) {
      const given = { ...needed, [name]: value };
      const { problems } = checkOptions(method, given);
      const [problem, ...others] = problems.filter(({ path }) => path === name);
      assert.match(problem?.message ?? "", why, `${method} ${name}`);
      assert.match(problem.message, /keel serve --allow_reward_sources/);
      assert.deepEqual(others, []);
      const allowed = checkOptions(method, given, { rewardSources: true });
      assert.deepEqual(allowed.problems.filter(({ path }) => path === name), [], `${method} ${name}`);
    }
    const harmless = {
      ...needed,
      reward_model: ["runs/rm/model", "user/reward-model"],
      reward_funcs: ["accuracy_reward", "get_repetition_penalty_reward:ngram_size=4"],
      reward_weights: [1, 1, 0.5, 0.5],
      judge_url: null,
    };
    assert.deepEqual(checkOptions(method, harmless).problems, [], method);
  }
});

Deno.test("no method takes an address, a rubric, a variable's name or a function from a request but the guarded ones", () => {
  for (const method of METHODS) {
    const offered = (rewardSources: boolean) =>
      Object.keys(optionsJsonSchema(method, { rewardSources }).properties as object);
    const names = offered(false).filter((name) => /url|rubric|_env$|address|endpoint/.test(name));
    assert.deepEqual(names, [], method);
    const more = offered(true).filter((name) => !offered(false).includes(name));
    const guarded = ["judge_api_key_env", "judge_rubric", "judge_url", "reward_url"];
    assert.deepEqual(more.sort(), REWARDED.includes(method) ? guarded : [], method);
  }
});

Deno.test("over HTTP the refusal is 422 and leaves no run; with allow_reward_sources the run is made", async () => {
  await withDirectory(async (directory) => {
    const options = {
      model_name_or_path: join(directory, "no-model"),
      dataset_name: join(directory, "no-data"),
      reward_funcs: [join(directory, "rewards.ts")],
    };
    for (const allowRewardSources of [undefined, false, true]) {
      const server = createServer({ runsDir: join(directory, "runs"), allowRewardSources, say: () => {} });
      const api = client(server.fetch);
      try {
        const { status, body } = await api.call("POST", "/runs", {
          body: { id: "r", method: "grpo", options },
        });
        if (allowRewardSources) {
          assert.equal(status, 201);
          assert.deepEqual(body.id, "r");
          await api.until("r", "failed");
        } else {
          assert.equal(status, 422);
          assert.deepEqual(body.error.fields.map(({ path }: { path: string }) => path), [
            "options.reward_funcs",
          ]);
          assert.deepEqual((await api.expect(200, "GET", "/runs")).runs, []);
        }
        const { methods } = await api.expect(200, "GET", "/methods");
        assert.equal("judge_url" in methods.grpo.properties, allowRewardSources ?? false);
      } finally {
        await server.close();
      }
    }
  });
});
