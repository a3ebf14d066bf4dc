/**
 * The parrot's story comes out over seeds: without a penalty the proxy climbs while gold peaks and falls, with the default
 * penalty gold stays up, and with unbiased annotators nothing falls.
 *
 * KEEL_PARROT_SEEDS chooses the seeds. The bounds are those of docs/parrot.md, for single runs and for means.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { Story } from "./story_run.ts";

const SEEDS = (Deno.env.get("KEEL_PARROT_SEEDS") ?? "1,2,3,4,5").split(",").map(Number);

/** Runs at once: each keeps little more than one core busy. */
const AT_ONCE = 2;

async function runSeed(seed: number, annotators: string): Promise<{ free: Story; held?: Story }> {
  const script = fileURLToPath(new URL("story_run.ts", import.meta.url));
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-read",
      "--allow-write",
      "--allow-env",
      "--allow-sys",
      script,
      String(seed),
      annotators,
    ],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

Deno.test(`the parrot's story comes out at seeds ${SEEDS.join(", ")}`, async () => {
  const free: Story[] = [], held: Story[] = [], control: Story[] = [];
  const jobs = SEEDS.flatMap((seed) => [[seed, "biased"], [seed, "unbiased"]] as [number, string][]);
  const worker = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const [seed, annotators] = job;
      const result = await runSeed(seed, annotators);
      (annotators === "biased" ? free : control).push(result.free);
      if (result.held) held.push(result.held);
      const shown = (s: Story) => Object.entries(s).map(([name, x]) => `${name} ${x.toFixed(2)}`).join(", ");
      console.log(`seed ${seed}, ${annotators}, β 0: ${shown(result.free)}`);
      if (result.held) console.log(`seed ${seed}, ${annotators}, default β: ${shown(result.held)}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const average = (rows: Story[], of: (row: Story) => number) => mean(rows.map(of));

  for (const row of free) assert.ok(row.proxyGain > 0.5, "β 0: the proxy climbs in every run");
  assert.ok(average(free, (r) => r.climbs) > 0.85, "β 0: the proxy rises at almost every evaluation");
  assert.ok(average(free, (r) => r.peak - r.sft) > 0.3, "β 0: gold rises first");
  assert.ok(average(free, (r) => r.end - r.peak) < -0.2, "β 0: then it falls");
  // How deep gold falls in one run varies a lot between seeds, so one run in five may miss the bound of single runs.
  const fallen = free.filter((row) => row.peak - row.sft > 0.2 && row.end - row.peak < -0.1);
  assert.ok(
    fallen.length >= 0.8 * free.length,
    `β 0: rise and fall in ${fallen.length} of ${free.length} runs`,
  );
  for (const row of held) {
    assert.ok(row.end - row.sft > 0.25, "default β: gold ends well above SFT in every run");
    assert.ok(row.end - row.peak > -0.12, "default β: no fall in any run");
  }
  for (const row of control) assert.ok(row.end > 0.7, "unbiased annotators: gold ends high in every run");
});
