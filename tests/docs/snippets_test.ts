/** The examples in README.md and in doc comments type-check and run. */
import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { asset, assetTest, withDirectory } from "../assets.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The TypeScript blocks of a file; in doc comments without the leading asterisks. */
function snippets(path: string): string[] {
  const text = Deno.readTextFileSync(join(ROOT, path)).replaceAll(/^ \* ?/gm, "");
  return Array.from(text.matchAll(/^```ts\n([\s\S]*?)^```/gm), (match) => match[1]);
}

/** Type-checks and runs `code` as if it stood beside `path`; "@keel/keel" is this project. */
async function runSnippet(code: string, path: string, paths: Record<string, string> = {}): Promise<string> {
  let output = "";
  await withDirectory(async (directory) => {
    let text = code.replaceAll('"@keel/keel"', JSON.stringify(`file://${join(ROOT, "mod.ts")}`))
      .replaceAll(/"\.\/([\w.]+)"/g, (_, file) => JSON.stringify(`file://${join(ROOT, dirname(path), file)}`))
      .replaceAll("runs/example", join(directory, "run"));
    for (const [from, to] of Object.entries(paths)) text = text.replaceAll(from, to);
    const file = join(directory, "snippet.ts");
    Deno.writeTextFileSync(file, text);
    const { code: status, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--check", "--allow-all", "--config", join(ROOT, "deno.json"), file],
      env: { NO_COLOR: "1" },
    }).output();
    assert.equal(status, 0, new TextDecoder().decode(stderr));
    output = new TextDecoder().decode(stdout);
  });
  return output;
}

for (
  const path of [
    "README.md",
    "src/rl/kl.ts",
    "src/rl/gae.ts",
    "src/rl/whiten.ts",
    "src/rl/group_advantages.ts",
    "src/rl/grpo_loss.ts",
    "src/rl/rloo_loss.ts",
    "src/rl/token_advantages.ts",
    "src/rl/best_of_n.ts",
    "src/data/packing.ts",
    "src/reward/source.ts",
    "src/reward/ensemble.ts",
    "src/reward/math_expression.ts",
    "src/reward/math_answer.ts",
    "src/reward/verdict.ts",
    "src/train/label_pairs.ts",
  ]
) {
  Deno.test(`the examples of ${basename(path)} run`, async () => {
    const all = snippets(path);
    assert.ok(all.length > 0, `${path} has no example`);
    for (const code of all) assert.notEqual(await runSnippet(code, path), "", "an example says nothing");
  });
}

assetTest("the examples of mod.ts train and sample", async () => {
  const lines: number[] = [];
  for (const code of snippets("mod.ts")) {
    const output = await runSnippet(code, "mod.ts", { "path/to/model": asset("goldens/models/stories260K") });
    lines.push(output.trim().split("\n").length);
  }
  // Three steps and a completion; two steps.
  assert.deepEqual(lines, [4, 2]);
});
