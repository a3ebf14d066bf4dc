/** The page in a real browser, over a real server and a real run. Screenshots are kept in `.cache/page/`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openStore } from "../../src/run/store.ts";
import { wordDiff } from "../../serve/page/diff.js";
import { withDirectory } from "../assets.ts";
import { startServer } from "./server.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

Deno.test("a person starts a run on the page, watches it, turns β, pauses, goes on and rolls back", async () => {
  await withDirectory(async (directory) => {
    const shots = join(ROOT, ".cache", "page");
    Deno.mkdirSync(shots, { recursive: true });
    const server = await startServer(directory);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-all",
        "--no-lock",
        "--no-check",
        join(ROOT, "tests/serve/drive_page.ts"),
        server.url,
        shots,
      ],
      stdout: "piped",
      stderr: "piped",
    }).output();
    await server.stop();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assert.equal(code, 0, text(stderr));
    const seen = JSON.parse(text(stdout).trim().split("\n").at(-1)!);
    assert.match(seen.refused, /ppo_steps/);
    assert.match(seen.wrong, /expected number to be >=0/);
    assert.equal(seen.before, 0.7);
    assert.equal(seen.after, 0.3);
    assert.ok(
      seen.events.some((event: string) => /rolled back.*ppo step 10/.test(event)),
      seen.events.join("\n"),
    );
    for (const title of ["Reward", "Gold beside proxy against distance", "β", "Length", "Throughput"]) {
      assert.ok(
        seen.charts.some((chart: string) => chart.startsWith(title)),
        `${title} is not among ${seen.charts}`,
      );
    }
    assert.deepEqual(seen.again, seen.charts);
    assert.ok(seen.overflow <= 0, `on a phone the page is ${seen.overflow} pixels too wide`);
    assert.equal(seen.focused[0], "Skip to the run");
    assert.ok(seen.focused.includes("new-run"), seen.focused.join());
    // The two refusals are all that the browser may complain of.
    assert.deepEqual(seen.errors.filter((error: string) => !/422/.test(error)), []);

    const store = openStore(join(directory, "from-the-page", "run.db"));
    const journal = store.knobs().map(({ stage, name, value }) => [stage, name, value]);
    assert.ok(store.requests().some(({ kind, refusal }) => kind === "roll_back" && refusal === null));
    store.close();
    // It was turned before the roll-back, to a step before that: dropped if later than the checkpoint.
    if (seen.holds <= 10) assert.deepEqual(journal, [["ppo", "kl_coef", 0.3]]);
    else assert.deepEqual(journal, []);
  });
});

Deno.test("two texts differ in the words that were added and left out", () => {
  assert.deepEqual(wordDiff("yes , it is .", "no , it is red ."), [
    { kind: "gone", text: "yes" },
    { kind: "new", text: "no" },
    { kind: "same", text: " , it is " },
    { kind: "new", text: "red " },
    { kind: "same", text: "." },
  ]);
  assert.deepEqual(wordDiff("a", "a"), [{ kind: "same", text: "a" }]);
  const whole = wordDiff("one two three", "four five six");
  assert.equal(whole.filter(({ kind }) => kind !== "new").map(({ text }) => text).join(""), "one two three");
  assert.equal(whole.filter(({ kind }) => kind !== "gone").map(({ text }) => text).join(""), "four five six");
});
