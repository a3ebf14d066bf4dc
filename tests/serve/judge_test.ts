/**
 * `keel serve` as the judge of `keel rlaif`: a real language model is asked which answer is better. One of 135 million parameters
 * rarely keeps to the form of a verdict, so this holds that its answers are read, asked for again, counted, and never made up.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { flags, keel, readLines, writeLines } from "../cli/keel.ts";
import { smollm2Test } from "../smollm2.ts";
import { startServer } from "./server.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

smollm2Test(
  "a model that keel serve serves is a judge of keel rlaif",
  (model) =>
    withDirectory(async (directory) => {
      // The model as a run: an adapter that has learnt nothing.
      const runs = join(directory, "runs"), text = writeLines(directory, "text.jsonl", [{ text: "Hello." }]);
      const served = {
        model,
        dataset: text,
        output_dir: join(runs, "judge"),
        use_peft: true,
        max_steps: 1,
        learning_rate: 0,
      };
      const made = await keel("sft", ...flags(served));
      assert.equal(made.code, 0, made.err);
      const server = await startServer(runs);
      try {
        const prompts = Array.from({ length: 3 }, (_, i) => ({ prompt: `<user> ${i} plus 3 is 7 . <bot>` }));
        const out = join(directory, "rlaif");
        const { code, err } = await keel(
          "rlaif",
          ...flags({
            model: BASE,
            dataset: writeLines(directory, "prompts.jsonl", prompts),
            output_dir: out,
            judge_url: `${server.url}/v1`,
            judge_model: "judge",
            judge_max_tokens: 12,
            judge_retries: 1,
            judge_concurrency: 2,
            max_completion_length: 10,
            eval_prompts: 1,
            max_steps: 1,
            seed: 4,
          }),
        );
        const report = JSON.parse(Deno.readTextFileSync(join(out, "label", "report.json")));
        console.log(
          `SmolLM2 as a judge: ${report.pairs} pairs, ${report.ties} ties, ${report.unanswered} without an answer, position bias ${report.position_bias}`,
        );
        assert.equal(report.pairs + report.ties + report.unanswered, 2);
        assert.match(err, /judge: \d+ requests, [\d,]+ tokens read/);
        // Where so small a judge decides nothing, there is nothing to learn from, which is said.
        if (report.pairs === 0) assert.match(err, /no rows|no pairs|no examples/i);
        else {
          assert.equal(code, 0, err);
          assert.equal(readLines(join(out, "label", "pairs.jsonl")).length, report.pairs);
          assert.equal(JSON.parse(Deno.readTextFileSync(join(out, "win_rate.json"))).prompts, 1);
        }
      } finally {
        await server.stop();
      }
    }),
);
