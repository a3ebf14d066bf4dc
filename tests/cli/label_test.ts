/** `keel label` with a judge that a test starts: pairs, the report, and going on after a kill. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { withDirectory } from "../assets.ts";
import { longerIsBetter, readQuestion, startJudge, type TestServer } from "../reward/servers.ts";
import { flags, keel, readLines, startKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

/** Prompts with a column that a reward function may read. */
const PROMPTS = Array.from({ length: 14 }, (_, i) => ({
  prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>`,
  wanted: i % 2 ? 3 : 2,
}));

interface Row {
  prompt: string;
  chosen: string;
  rejected: string;
  score_chosen: number;
  score_rejected: number;
  scores: Record<string, [number, number]>;
}

/** Options of a small run. */
const small = (directory: string, run: string, more: Record<string, unknown> = {}) =>
  flags({
    model: BASE,
    dataset: writeLines(directory, "prompts.jsonl", PROMPTS),
    output_dir: join(directory, run),
    max_completion_length: 8,
    batch_size: 4,
    seed: 3,
    ...more,
  });

const judged = (server: TestServer) => ({
  judge_url: `${server.url}/v1`,
  judge_model: "rule",
  judge_concurrency: 4,
});

async function withJudge(use: (directory: string, server: TestServer) => Promise<void>): Promise<void> {
  const server = startJudge(longerIsBetter);
  try {
    await withDirectory((directory) => use(directory, server));
  } finally {
    await server.close();
  }
}

const pairsOf = (directory: string, run: string) =>
  Deno.readTextFileSync(join(directory, run, "pairs.jsonl"));

const reportOf = (directory: string, run: string) =>
  JSON.parse(Deno.readTextFileSync(join(directory, run, "report.json")));

Deno.test("pairs by a judge are preference rows, each was shown in both orders, and nothing is asked twice", () =>
  withJudge(async (directory, server) => {
    const { code, out, err } = await keel("label", ...small(directory, "a", judged(server)));
    assert.equal(code, 0, err);
    assert.equal(out.trim().split("\n")[0], join(directory, "a", "pairs.jsonl"));
    const rows = readLines<Row>(join(directory, "a", "pairs.jsonl")), report = reportOf(directory, "a");
    assert.ok(rows.length > 3, `only ${rows.length} pairs`);
    for (const { prompt, chosen, rejected, score_chosen, score_rejected } of rows) {
      assert.ok(PROMPTS.some((one) => one.prompt === prompt));
      assert.ok(chosen.length > rejected.length);
      assert.deepEqual([score_chosen, score_rejected], [1, 0]);
    }
    assert.equal(report.prompts, 14);
    assert.equal(report.pairs, rows.length);
    assert.equal(report.pairs + report.ties + report.unanswered, 14);
    assert.deepEqual([report.position_bias, report.label_by, report.unanswered], [0, "judge", 0]);
    assert.match(
      err,
      new RegExp(`${rows.length} pairs from 14 prompts with 28 completions, labelled by judge`),
    );
    const requests = server.seen.length;
    assert.match(
      err,
      new RegExp(`judge: ${requests} requests, ${requests},000 tokens read .*; 0 answers could not be read`),
    );
    const asked = server.seen.map(readQuestion), shown = (answers: string[]) => answers.join(" | ");
    for (const { prompt, answers } of asked) {
      assert.ok(
        asked.some((other) =>
          other.prompt === prompt && shown(other.answers) === shown(answers.toReversed())
        ),
      );
    }
    assert.equal(new Set(asked.map((one) => JSON.stringify(one))).size, asked.length);
    // They are read as what they are.
    const data = await keel("data", join(directory, "a", "pairs.jsonl"), "--rows", 0);
    assert.match(data.out, /preference/);

    // A judge's answers are kept: what is not finished is labelled again without a question.
    const database = new DatabaseSync(join(directory, "a", "run.db"));
    database.exec("DELETE FROM finished_rows WHERE row > 2");
    database.close();
    const before = server.seen.length, pairs = pairsOf(directory, "a");
    Deno.removeSync(join(directory, "a", "pairs.jsonl"));
    const again = await keel("label", ...small(directory, "a", judged(server)), "--resume");
    assert.equal(again.code, 0, again.err);
    assert.equal(server.seen.length, before);
    assert.equal(pairsOf(directory, "a"), pairs);
    assert.deepEqual(reportOf(directory, "a"), report);

    // Other settings of the choice need nobody to be asked, other settings of the answers another run.
    const all = await keel("label", ...small(directory, "a", judged(server)), "--resume", "--pairs", "all");
    assert.equal(all.code, 0, all.err);
    const other = await keel(
      "label",
      ...small(directory, "a", { ...judged(server), temperature: 0.5 }),
      "--resume",
    );
    assert.equal(other.code, 1);
    assert.match(other.err, /were done in another way: temperature was 1 and is 0\.5\. Use the same options/);
  }));

Deno.test("a run that is killed goes on, and comes to the same pairs without a question more", () =>
  withJudge(async (directory, server) => {
    const whole = await keel("label", ...small(directory, "whole", judged(server)));
    assert.equal(whole.code, 0, whole.err);
    const questions = server.seen.length;
    server.seen.length = 0;
    const { promise: reached, resolve } = Promise.withResolvers<void>();
    // The process is killed while it waits for an answer of its second group.
    server.interfere = (number) => {
      if (number < 10) return undefined;
      resolve();
      return new Promise<Response>(() => {});
    };
    const child = startKeel(["label", ...small(directory, "killed", judged(server))]);
    await reached;
    child.kill("SIGKILL");
    await child.output();
    assert.ok(!existsSync(join(directory, "killed", "pairs.jsonl")));
    const answered = 9;
    server.interfere = undefined;
    server.seen.length = 0;
    const again = await keel("label", ...small(directory, "killed", judged(server)), "--resume");
    assert.equal(again.code, 0, again.err);
    assert.ok(
      server.seen.length <= questions - answered + 4,
      `${server.seen.length} of ${questions} questions again`,
    );
    assert.equal(pairsOf(directory, "killed"), pairsOf(directory, "whole"));
    // Nor does it matter how many prompts are answered at a time.
    const other = await keel("label", ...small(directory, "one", { ...judged(server), batch_size: 9 }));
    assert.equal(other.code, 0, other.err);
    assert.equal(pairsOf(directory, "one"), pairsOf(directory, "whole"));
    assert.deepEqual(reportOf(directory, "killed"), reportOf(directory, "whole"));
  }));

Deno.test("several labellers: one decides, the report says how often the others agree", () =>
  withJudge(async (directory, server) => {
    const file = join(directory, "mine.ts");
    Deno.writeTextFileSync(
      file,
      `
      export const longest = ({ completions }) => completions.map((text) => text.length);
      export const near = ({ completion_ids, wanted }) =>
        completion_ids.map((ids, i) => wanted[i] === 3 ? null : -Math.abs(ids.length - wanted[i]));
      `,
    );
    const more = { ...judged(server), reward_funcs: file, num_generations: 3 };
    const { code, err } = await keel("label", ...small(directory, "b", more));
    assert.equal(code, 0, err);
    const report = reportOf(directory, "b"), rows = readLines<Row>(join(directory, "b", "pairs.jsonl"));
    assert.deepEqual(Object.keys(report.labellers), ["judge", "longest", "near", "rewards"]);
    assert.equal(report.labellers.near.unanswered, 7);
    const [{ labellers, share }] = report.agreement;
    // The judge likes long answers, too.
    assert.deepEqual([labellers, share], [["judge", "longest"], 1]);
    assert.match(err, /judge and near agree on/);
    rows.forEach(({ scores }) => assert.ok(scores.longest[0] > scores.longest[1]));
    // The same without a judge, by the weighted sum.
    const sums = await keel(
      "label",
      ...small(directory, "c", {
        reward_funcs: file,
        reward_weights: "0,1",
        num_generations: 3,
        max_prompts: 9,
      }),
    );
    assert.equal(sums.code, 0, sums.err);
    const sum = reportOf(directory, "c");
    assert.deepEqual([sum.label_by, sum.prompts, sum.comparisons], ["rewards", 9, 0]);
    const near = await keel(
      "label",
      ...small(directory, "d", { reward_funcs: file, label_by: "near", num_generations: 3, max_prompts: 9 }),
    );
    assert.equal(near.code, 0, near.err);
    assert.equal(reportOf(directory, "d").unanswered, 4);
  }));

Deno.test("a judge that scores labels by its scores", () =>
  withJudge(async (directory, server) => {
    const { code, err } = await keel(
      "label",
      ...small(directory, "s", { ...judged(server), judge_mode: "score" }),
    );
    assert.equal(code, 0, err);
    for (
      const { chosen, rejected, score_chosen, score_rejected } of readLines<Row>(
        join(directory, "s", "pairs.jsonl"),
      )
    ) {
      assert.ok(chosen.length > rejected.length && score_chosen > score_rejected);
    }
    assert.ok(server.seen.every((one) => readQuestion(one).answers.length === 1));
  }));

Deno.test("a spending limit stops the run, which goes on with a higher one", () =>
  withJudge(async (directory, server) => {
    const stopped = await keel(
      "label",
      ...small(directory, "e", { ...judged(server), judge_max_requests: 9 }),
    );
    assert.equal(stopped.code, 1);
    assert.match(stopped.err, /not asked any more after 9 requests \(judge_max_requests\)/);
    assert.equal(server.seen.length, 9);
    const more = await keel(
      "label",
      ...small(directory, "e", { ...judged(server), judge_max_requests: 500 }),
      "--resume",
    );
    assert.equal(more.code, 0, more.err);
    const whole = await keel("label", ...small(directory, "f", judged(server)));
    assert.equal(whole.code, 0, whole.err);
    assert.equal(pairsOf(directory, "e"), pairsOf(directory, "f"));
  }));

Deno.test("what cannot be labelled is refused before anything is sampled", () =>
  withDirectory(async (directory) => {
    const refused = async (more: Record<string, unknown>, expected: RegExp) => {
      const { code, err } = await keel(
        "label",
        ...small(directory, "x", { ...more, overwrite_output_dir: true }),
      );
      assert.ok(code > 0);
      assert.match(err, expected);
    };
    await refused({}, /Nobody labels. Give judge_url and judge_model, reward_model/);
    await refused(
      { reward_funcs: "length_reward", label_by: "judge" },
      /label_by is "judge". Expected one of the labellers length_reward/,
    );
    await refused({ judge_url: "http://127.0.0.1:9/v1" }, /A judge needs judge_url/);
    await refused({ judge_url: "ftp://x", judge_model: "m" }, /--judge_url: got "ftp:\/\/x"/);
    await refused({ reward_funcs: "length_reward", max_completion_length: 64 }, /leave no room for a prompt/);
    await refused({ num_generations: 1 }, /--num_generations: got 1, expected a whole number of at least 2/);
  }));
