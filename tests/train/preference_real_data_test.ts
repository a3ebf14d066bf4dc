/** DPO on hh-rlhf as it is published, and accuracy on held-out pairs counted again from the models it leaves. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { makeRows } from "../../src/data/rows.ts";
import { preferenceTokenizer } from "../../src/data/preference.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import { score } from "../../src/sample/score.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { writeLines } from "../cli/keel.ts";
import { metricsOf, runKeel } from "./trl.ts";

const PAIRS = 160, HELD_OUT = 40, MAX_LENGTH = 128, BETA = 0.1;

assetTest(
  "keel dpo on hh-rlhf reports the held-out accuracy and margin that its model has",
  () =>
    withDirectory(async (directory) => {
      const stories = asset("goldens/models/stories260K"), out = join(directory, "run");
      const text = new TextDecoder().decode(
        gunzipSync(Deno.readFileSync(asset("data/hh-rlhf-harmless-base-test.jsonl.gz"))),
      );
      const rows: Record<string, string>[] = text.split("\n").slice(0, PAIRS + HELD_OUT).map((line) =>
        JSON.parse(line)
      );
      await runKeel("dpo", {
        model: stories,
        dataset: writeLines(directory, "train.jsonl", rows.slice(0, PAIRS)),
        eval_dataset: writeLines(directory, "held_out.jsonl", rows.slice(PAIRS)),
        output_dir: out,
        num_train_epochs: 1,
        per_device_train_batch_size: 8,
        max_length: MAX_LENGTH,
        truncation_mode: "keep_end",
        learning_rate: 1e-4,
        beta: BETA,
        precompute_ref_log_probs: true,
      });
      const metrics = metricsOf(out, "dpo"), last = metrics.get(PAIRS / 8)!;
      assert.equal(metrics.size, PAIRS / 8);

      const tokenizer = loadTokenizer(stories);
      const tokenize = preferenceTokenizer(tokenizer, { maxLength: MAX_LENGTH, truncationMode: "keep_end" });
      const pairs = makeRows("held out", rows.slice(PAIRS)).flatMap((row) => {
        const outcome = tokenize(row);
        return "example" in outcome ? [outcome.example] : [];
      });
      const gpu = await openGpu();
      const logprobsOf = async (path: string, side: "chosen" | "rejected") => {
        const scores = await score({ gpu }, loadModel(gpu, path), pairs.map((pair) => pair[side].ids));
        return scores.map(({ logprobs }, i) =>
          logprobs.slice(Math.max(0, pairs[i][side].promptLength - 1)).reduce((a, b) => a + b, 0)
        );
      };
      const model = join(out, "model");
      const rewardsOf = async (side: "chosen" | "rejected") => {
        const ours = await logprobsOf(model, side), before = await logprobsOf(stories, side);
        return ours.map((logprob, i) => BETA * (logprob - before[i]));
      };
      const chosen = await rewardsOf("chosen"), rejected = await rewardsOf("rejected");
      gpu.close();
      const margins = chosen.map((reward, i) => reward - rejected[i]);
      const accuracy = margins.filter((margin) => margin > 0).length / HELD_OUT;
      const margin = margins.reduce((a, b) => a + b) / HELD_OUT;
      console.log(
        `hh-rlhf: ${accuracy} of ${HELD_OUT} held-out pairs are ranked right, mean margin ${margin}`,
      );
      // Pairs whose margin is rounding may fall on either side.
      assert.ok(Math.abs(last["eval_rewards/accuracies"] - accuracy) <= 1 / HELD_OUT);
      assert.ok(Math.abs(last["eval_rewards/margins"] - margin) < 1e-3);
      assert.ok(margins.some((m) => Math.abs(m) > 0.1), "the policy has moved");
    }),
);
