/** Names of the Hub on the command line, against a hub of this machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { progressLine } from "../../src/cli/fetch_progress.ts";
import { readRunConfig } from "../../src/run/run.ts";
import { commit, filesOf, type HubRepo, repoOf, startHub, type TestHub, text } from "../hub/server.ts";
import { golden, withDirectory } from "../assets.ts";
import { flags, keel, type Outcome, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;
const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)));
const PERMISSIONS = (tasks.keel as string).split(" ").filter((word) => word.startsWith("--allow-"));

/** Runs a command line in a process of its own with the permissions of the task. */
async function permitted(argv: string[], env: Record<string, string>): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--no-check", ...PERMISSIONS, MAIN, ...argv],
    env,
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: decode(stdout), err: decode(stderr) };
}

/** A hub, a cache and a folder; the environment says where they are. */
function withHub(
  repos: Record<string, HubRepo>,
  use: (one: { hub: TestHub; directory: string; env: Record<string, string> }) => Promise<void>,
): Promise<void> {
  return withDirectory(async (directory) => {
    const hub = startHub(repos);
    const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(directory, "hf") };
    const before = Object.keys(env).map((name) => [name, Deno.env.get(name)] as const);
    for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
    try {
      await use({ hub, directory, env });
    } finally {
      for (const [name, value] of before) {
        value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
      }
      await hub.close();
    }
  });
}

Deno.test("keel score fetches a model by its name, once, with the permissions that the task gives", () => {
  const model = golden("models/tiny-llama");
  const repo = repoOf({ ...filesOf(model), "pytorch_model.bin": text("?") });
  return withHub({ "models/org/tiny": repo }, async ({ hub, directory, env }) => {
    const input = writeLines(directory, "rows.jsonl", [{ input_ids: [1, 5, 9, 200] }, { input_ids: [4, 4] }]);
    const { code, out, err } = await permitted(["score", "--model", "org/tiny", "--input", input], env);
    assert.equal(code, 0, err);
    assert.match(err, /^Fetched org\/tiny: \d+ kB/);
    assert.equal(out, (await keel("score", "--model", model, "--input", input)).out);
    assert.equal(hub.bodies().filter(({ port }) => port === "hub").length, 3);
    const again = await permitted(["score", "--model", "org/tiny", "--input", input], {
      ...env,
      HF_HUB_OFFLINE: "1",
    });
    assert.deepEqual(again, { code: 0, out, err: "" });
    assert.deepEqual(hub.seen, []);
    const wrong = await permitted(["score", "--model", "org/tinny", "--input", input], env);
    assert.equal(wrong.code, 1);
    assert.match(wrong.err, /^Cannot fetch org\/tinny: there is no such model on 127/);
    assert.doesNotMatch(wrong.err, /\n\s+at /);
  });
});

Deno.test("a run keeps the commit of its model, also where the branch has moved when it is resumed", () => {
  const files = filesOf(BASE), other = { ...files, "config.json": text("{}") };
  const repo = { commits: { [commit("a")]: files, [commit("b")]: other }, refs: { main: commit("a") } };
  return withHub({ "models/org/parrot": repo }, async ({ hub, directory }) => {
    const dataset = writeLines(directory, "rows.jsonl", [{ prompt: "<user> 3 5 <bot>", completion: " 8" }]);
    const output_dir = join(directory, "run");
    const sft = (steps: number, more = {}) =>
      keel(
        "sft",
        ...flags({ model: "org/parrot", dataset, output_dir, max_steps: steps, save_steps: 1, ...more }),
      );
    const first = await sft(1);
    assert.equal(first.code, 0, first.err);
    const recorded = () => readRunConfig(output_dir)!.options;
    assert.equal(recorded().modelNameOrPath, `org/parrot@${commit("a")}`);
    assert.equal(recorded().modelRevision, "main");
    repo.refs.main = commit("b");
    hub.seen.splice(0);
    const second = await sft(2, { resume: true });
    assert.equal(second.code, 0, second.err);
    assert.match(second.err, /settings differ[^:]*: maxSteps was 1 and is 2\.\n/);
    assert.equal(recorded().modelNameOrPath, `org/parrot@${commit("a")}`);
    assert.deepEqual(hub.seen, []);
    const elsewhere = await sft(1, { output_dir: join(directory, "other") });
    assert.match(elsewhere.err, /config\.json: "architectures" is undefined/);
    const earlier = await sft(1, { output_dir: join(directory, "third"), model_revision: commit("a") });
    assert.equal(earlier.code, 0, earlier.err);
  });
});

Deno.test("an adapter's base is fetched by its name, and a new adapter names its base in the same way", () =>
  withHub({ "models/org/parrot": repoOf(filesOf(BASE)) }, async ({ directory, env }) => {
    const dataset = writeLines(directory, "rows.jsonl", [{ prompt: "<user> 3 5 <bot>", completion: " 8" }]);
    const output_dir = join(directory, "run");
    const line = flags({ model: "org/parrot", dataset, output_dir, max_steps: 1, use_peft: true });
    const trained = await keel("sft", ...line);
    assert.equal(trained.code, 0, trained.err);
    const adapter = join(output_dir, "model");
    const config = JSON.parse(Deno.readTextFileSync(join(adapter, "adapter_config.json")));
    assert.equal(config.base_model_name_or_path, "org/parrot");
    const input = writeLines(directory, "prompts.jsonl", [{ input_ids: [1, 3, 10] }]);
    const elsewhere = { ...env, HF_HUB_CACHE: join(directory, "elsewhere") };
    const sampled = await permitted(
      ["sample", "--model", adapter, "--input", input, "--max_new_tokens", "4", "--temperature", "0"],
      elsewhere,
    );
    assert.equal(sampled.code, 0, sampled.err);
    assert.match(sampled.err, /^Fetched org\/parrot: /);
    assert.equal(JSON.parse(sampled.out).prompt_ids.length, 3);
  }));

Deno.test("a list of reward models may name some of the Hub, whose commits are kept", () =>
  withDirectory((made) => {
    const policy = tinyModel(made, "tiny-llama"), local = tinyModel(made, "tiny-llama-rm");
    const files = filesOf(local), other = { ...files, "config.json": text("{}") };
    const repo = { commits: { [commit("a")]: files, [commit("b")]: other }, refs: { main: commit("a") } };
    return withHub({ "models/org/rm": repo }, async ({ directory }) => {
      const output_dir = join(directory, "run");
      const line = flags({
        model: policy,
        dataset: writeLines(directory, "prompts.jsonl", [{ prompt: "a" }]),
        reward_model: `org/rm,${local}`,
        max_completion_length: 2,
        output_dir,
      });
      const first = await keel("bon", ...line);
      assert.equal(first.code, 0, first.err);
      assert.deepEqual(readRunConfig(output_dir)!.options.rewardModelPath, [`org/rm@${commit("a")}`, local]);
      repo.refs.main = commit("b");
      const again = await keel("bon", ...line, "--resume");
      assert.equal(again.code, 0, again.err);
    });
  }));

const row = (words: string) => ({ prompt: `<user> ${words} <bot>`, completion: " 8" });
const lines = (...rows: unknown[]) => text(rows.map((one) => JSON.stringify(one) + "\n").join(""));

/** A dataset with two configurations, one of which has two files to train on and a test split. */
const SUMS: HubRepo = repoOf({
  "README.md": text("---\nconfigs:\n- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b\n---\n"),
  "a/train-0.jsonl": lines(row("3 5"), row("1 7")),
  "a/train-1.jsonl": lines(row("2 6")),
  "a/test.jsonl": lines(row("4 4"), row("6 2")),
  "b/data.jsonl": lines(row("8 0")),
});

Deno.test("a dataset is named with its configuration and its splits, and only those are fetched", () =>
  withHub({ "datasets/org/sums": SUMS }, async ({ hub, directory }) => {
    const sft = (output: string, options: Record<string, unknown>) =>
      keel(
        "sft",
        ...flags({
          model: BASE,
          dataset: "org/sums",
          output_dir: join(directory, output),
          max_steps: 1,
          ...options,
        }),
      );
    const refused = await sft("none", {});
    assert.match(
      refused.err,
      /^Cannot use org\/sums: it has 2 configurations\. Name one with --dataset_config: a, b\.$/m,
    );
    hub.bodies();
    const one = await sft("one", { dataset_config: "a" });
    assert.equal(one.code, 0, one.err);
    assert.match(one.err, new RegExp(`org/sums@${commit("a")}: 3 of 3 rows`));
    assert.deepEqual(
      hub.bodies().map(({ path }) => path.slice(-14)),
      ["a/train-0.jsonl", "a/train-1.jsonl"].map((name) => name.slice(-14)),
    );
    const options = readRunConfig(join(directory, "one"))!.options;
    assert.equal(options.datasetName, `org/sums@${commit("a")}`);
    const both = await sft("both", { dataset_config: "a", dataset_test_split: "test" });
    assert.match(both.err, /\(test\): 2 of 2 rows/);
    assert.equal(hub.bodies().length, 1);
    const missing = await sft("missing", { dataset_config: "b", dataset_train_split: "dev" });
    assert.match(missing.err, /Cannot use org\/sums: it has no split dev\. It has train\./);
    // Beside files of one's own, and with the run's commit where it goes on.
    const own = writeLines(directory, "own.jsonl", [row("5 3"), row("0 8")]);
    const mixed = join(directory, "mixed.yaml"), commits = SUMS.commits;
    Deno.writeTextFileSync(
      mixed,
      JSON.stringify({ datasets: [{ path: "org/sums", name: "a", split: "test" }, { path: own }] }),
    );
    const line = [
      "--config",
      mixed,
      ...flags({ model: BASE, output_dir: join(directory, "mixed"), save_steps: 1 }),
    ];
    const first = await keel("sft", ...line, "--max_steps", "1");
    assert.equal(first.code, 0, first.err);
    assert.match(first.err, /: 4 of 4 rows/);
    commits[commit("b")] = { "train.jsonl": text("broken") };
    SUMS.refs.main = commit("b");
    const second = await keel("sft", ...line, "--max_steps", "2", "--resume");
    assert.equal(second.code, 0, second.err);
    assert.match(second.err, /settings differ[^:]*: maxSteps was 1 and is 2\.\n/);
    SUMS.refs.main = commit("a");
    const local = await sft("local", { dataset: own, dataset_config: "a" });
    assert.match(local.err, /--dataset_config a has no meaning for .*own\.jsonl: only datasets on the Hub/);
  }));

Deno.test("keel data shows every split of a dataset on the Hub", () =>
  withHub({ "datasets/org/sums": SUMS }, async () => {
    const { code, out, err } = await keel("data", "--dataset", "org/sums", "--dataset_config", "a", "--json");
    assert.equal(code, 0, err);
    const files = (JSON.parse(out).files as { split: string; rows: number }[]).map((
      { split, rows },
    ) => [split, rows]);
    assert.deepEqual(files, [["test", 2], ["train", 2], ["train", 1]]);
  }));

Deno.test("progress of a fetch is a line with share, bytes, rate and time left", () => {
  const progress = { name: "org/m", file: "a.safetensors", received: 1.2e9, total: 2.6e9, rate: 35e6 };
  assert.equal(
    progressLine(progress),
    "Fetching org/m: 46%, 1.20 GB of 2.60 GB, 35.0 MB/s, 0:40 left (a.safetensors)",
  );
  assert.equal(
    progressLine({ ...progress, received: 999, rate: 0 }),
    "Fetching org/m: 0%, 999 B of 2.60 GB (a.safetensors)",
  );
  assert.equal(progressLine({ ...progress, received: 2.6e9 }), "Fetched org/m: 2.60 GB, 35.0 MB/s");
});
