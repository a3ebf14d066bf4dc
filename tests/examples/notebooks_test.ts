/** The notebooks run from the first cell to the last, one against a real server, and are committed with what they show. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withDirectory } from "../assets.ts";
import { python, pythonTest } from "../python.ts";
import { client, startServer } from "../serve/server.ts";

const FOLDER = fileURLToPath(new URL("../../examples/notebooks/", import.meta.url));

/** Most bytes of a notebook, outputs and all. */
const MOST_BYTES = 300_000;

interface Output {
  output_type: string;
  text?: string[];
  data?: Record<string, string | string[]>;
}

interface Cell {
  id: string;
  cell_type: string;
  source: string[];
  execution_count: number | null;
  outputs: Output[];
}

function readCells(path: string): Cell[] {
  return JSON.parse(Deno.readTextFileSync(path)).cells;
}

/** What a cell put out in a form, or as text. */
function shown(cells: Cell[], id: string, type = "text/plain"): string {
  const cell = cells.find((one) => one.id === id);
  assert.ok(cell, `There is no cell ${id}`);
  return cell.outputs.flatMap(({ text, data }) => type === "text/plain" && text || data?.[type] || [])
    .flat().join("");
}

/** Runs a notebook where it lies and returns its cells; one that fails is an error. */
async function execute(name: string, directory: string, env: Record<string, string> = {}): Promise<Cell[]> {
  const kernel = join(directory, "jupyter", "kernels", "deno");
  Deno.mkdirSync(kernel, { recursive: true });
  Deno.writeTextFileSync(
    join(kernel, "kernel.json"),
    JSON.stringify({
      argv: [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"],
      display_name: "Deno",
      language: "typescript",
    }),
  );
  const folders = {
    JUPYTER_PATH: join(directory, "jupyter"),
    IPYTHONDIR: directory,
    JUPYTER_RUNTIME_DIR: directory,
  };
  const to = ["--to", "notebook", "--execute", "--output-dir", directory, join(FOLDER, name)];
  await python(["-m", "jupyter", "nbconvert", ...to], { env: { ...folders, ...env } });
  return readCells(join(directory, name));
}

for (const name of ["steer_a_run.ipynb", "keel_in_deno.ipynb"]) {
  Deno.test(`${name} is committed with the outputs of one run, and without paths of a machine or tokens`, () => {
    const text = Deno.readTextFileSync(join(FOLDER, name));
    assert.ok(text.length < MOST_BYTES, `${text.length} bytes`);
    assert.doesNotMatch(text, /(?<![\w.:/])\/(?:root|home|Users|work|tmp|private|var)\/|Bearer [\w-]{20}/);
    const code = readCells(join(FOLDER, name)).filter(({ cell_type }) => cell_type === "code");
    assert.deepEqual(code.map(({ execution_count }) => execution_count), code.map((_, i) => i + 1));
    assert.ok(code.every(({ outputs }) => outputs.every(({ output_type }) => output_type !== "error")));
  });
}

pythonTest(
  "steer_a_run.ipynb starts a run, watches it, turns β, compares it with a second one and downloads a policy",
  async () => {
    await withDirectory(async (directory) => {
      const server = await startServer(join(directory, "runs")), api = client(server.url);
      try {
        const cells = await execute("steer_a_run.ipynb", directory, { KEEL_URL: server.url });
        const from = Number(/β is 0.7 from step (\d+) on/.exec(shown(cells, "turn"))?.[1]);
        assert.ok(from > 16, shown(cells, "turn"));
        assert.match(shown(cells, "journal"), new RegExp(`kl_coef +0.7 +${from} +http 127.0.0.1`));
        assert.match(shown(cells, "compare"), new RegExp(`the same number up to step ${from - 1}\\.`));
        assert.match(shown(cells, "samples"), /<user> .* -1\.\d\d /s);
        assert.match(
          shown(cells, "download"),
          /model\.safetensors +1,191,880 bytes[^]*297,216 parameters in 29/,
        );
        for (const id of ["follow", "turn", "second", "compare"]) {
          assert.ok(shown(cells, id, "image/png").length > 10_000, `${id} shows no picture`);
        }
        const { runs } = await api.expect(200, "GET", "/runs");
        assert.deepEqual(
          runs.map((
            { id, state, stage, step }: Record<string, string>,
          ) => [id.slice(0, -7), state, stage, step]),
          [["left-alone", "finished", "ppo", 32], ["steered", "finished", "ppo", 32]],
        );
        const { stages } = await api.expect(200, "GET", `/runs/${runs[1].id}/knobs`);
        assert.deepEqual(
          stages[2].journal.map((line: Record<string, unknown>) => [line.name, line.value, line.from_step]),
          [["kl_coef", 0.7, from]],
        );
      } finally {
        await server.stop();
      }
    });
  },
);

pythonTest("keel_in_deno.ipynb goes from a base model to PPO in Deno's kernel", async () => {
  await withDirectory(async (directory) => {
    const cells = await execute("keel_in_deno.ipynb", directory);
    const last = (id: string) =>
      Number(/>[a-z ]+ (\d\.\d+)<\/text>/.exec(shown(cells, id, "image/svg+xml"))?.[1]);
    assert.ok(last("sft") < 0.3, `loss ${last("sft")}`);
    assert.ok(last("reward") > 0.9, `accuracy ${last("reward")}`);
    assert.match(shown(cells, "ppo", "image/svg+xml"), />KL \d\.\d+<\/text>[^]*>step 20</);
    const rows = shown(cells, "after", "text/markdown").trim().split("\n").slice(2);
    const before = rows.map((row) => row.split("|")[3]), after = rows.map((row) => row.split("|")[4]);
    assert.match(before[0], /3 plus 4 is 7/);
    assert.match(after.join("\n"), /3 plus 4 is 8|5 plus 5 is 7|9 plus 1 is 11/);
  });
});
