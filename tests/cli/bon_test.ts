/** `keel bon` with reward functions of a test: the best rows, the curve, and going on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { withDirectory } from "../assets.ts";
import { flags, keel, readLines, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

/** Longer is better, gold up to five letters only. */
const REWARDS = `
export const long = ({ completions }) => completions.map((text) => text.length);
export const fair = ({ completions }) => completions.map((text) => -Math.abs(text.length - 5));
`;

interface Row {
  prompt: string;
  completion: string;
  score: number;
  gold: number;
}

function options(directory: string, run: string, more: Record<string, unknown> = {}): string[] {
  const proxy = join(directory, "proxy.ts"), gold = join(directory, "gold.ts");
  const [long, fair] = REWARDS.trim().split("\n");
  Deno.writeTextFileSync(proxy, long);
  Deno.writeTextFileSync(gold, fair);
  return flags({
    model: BASE,
    dataset: writeLines(
      directory,
      "prompts.jsonl",
      Array.from({ length: 9 }, (_, i) => ({ prompt: `<user> ${i} ${(i * 5) % 8} <bot>` })),
    ),
    output_dir: join(directory, run),
    reward_funcs: proxy,
    gold_funcs: gold,
    num_generations: 6,
    max_completion_length: 8,
    batch_size: 4,
    ...more,
  });
}

Deno.test("the best of each prompt is written, proxy and gold are reported for each n, and a run goes on", () =>
  withDirectory(async (directory) => {
    const { code, err } = await keel("bon", ...options(directory, "a"));
    assert.equal(code, 0, err);
    const rows = readLines<Row>(join(directory, "a", "best.jsonl"));
    assert.equal(rows.length, 9);
    for (const { completion, score, gold } of rows) {
      assert.deepEqual([score, gold], [completion.length, -Math.abs(completion.length - 5)]);
    }
    const text = Deno.readTextFileSync(join(directory, "a", "report.json")), report = JSON.parse(text);
    assert.deepEqual([report.prompts, report.completions, report.unscored], [9, 54, 0]);
    assert.deepEqual(report.points.map(({ n }: { n: number }) => n), [1, 2, 4, 6]);
    report.points.forEach(({ n, kl, proxy }: Record<string, number>, i: number) => {
      assert.equal(kl, Math.log(n) - (n - 1) / n);
      assert.ok(i === 0 || proxy > report.points[i - 1].proxy);
    });
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const last = report.points.at(-1);
    assert.ok(Math.abs(last.proxy - mean(rows.map(({ score }) => score))) < 1e-12);
    assert.match(err, /best of n from 54 completions of 9 prompts\n +n +KL \(nats\) +proxy +± +gold +±/);
    assert.match(
      (await keel("data", join(directory, "a", "best.jsonl"), "--rows", 0)).out,
      /prompt-completion/,
    );

    const database = new DatabaseSync(join(directory, "a", "run.db"));
    database.exec("DELETE FROM finished_rows WHERE row > 4");
    database.close();
    const again = await keel("bon", ...options(directory, "a"), "--resume");
    assert.equal(again.code, 0, again.err);
    assert.equal(Deno.readTextFileSync(join(directory, "a", "report.json")), text);
    assert.deepEqual(readLines(join(directory, "a", "best.jsonl")), rows);
  }));

Deno.test("without gold the curve is the proxy's, and completions without a score are no guess", () =>
  withDirectory(async (directory) => {
    const file = join(directory, "some.ts");
    Deno.writeTextFileSync(
      file,
      "export const some = ({ prompts, completions }) => completions.map((text, i) => prompts[i].includes('3') ? null : text.length);",
    );
    const { code, err } = await keel(
      "bon",
      ...options(directory, "b", { reward_funcs: file, gold_funcs: "none", max_prompts: 6 }),
    );
    assert.equal(code, 0, err);
    const report = JSON.parse(Deno.readTextFileSync(join(directory, "b", "report.json")));
    assert.deepEqual([report.prompts, report.unscored], [6, 1]);
    assert.ok(!("gold" in report.points[0]));
    assert.equal(readLines(join(directory, "b", "best.jsonl")).length, 5);
    const none = await keel("bon", ...options(directory, "c", { reward_funcs: "none", gold_funcs: "none" }));
    assert.match(none.err, /There is nothing that gives rewards/);
  }));
