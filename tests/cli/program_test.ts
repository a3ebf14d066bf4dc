import assert from "node:assert/strict";
import { DESCRIPTIONS } from "../../src/cli/catalogue.ts";
import type { Io } from "../../src/cli/io.ts";
import { type CommandBody, runProgram } from "../../src/cli/program.ts";

/** Runs a command line with command bodies that only remember their options. */
async function run(line: string[], body: CommandBody = () => Promise.resolve()) {
  const seen = { out: "", err: "", options: undefined as Record<string, unknown> | undefined, json: false };
  const openIo = (json: boolean): Io => ({
    print: (text) => void (seen.out += text + "\n"),
    write: (text) => void (seen.out += text),
    note: (text) => void (seen.err += text + "\n"),
    draw: (text) => void (seen.err += text),
    json,
    terminal: false,
    columns: () => 100,
  });
  const definitions = Object.values(DESCRIPTIONS).map((description) => ({
    ...description,
    load: () =>
      Promise.resolve<CommandBody>((options, io) => {
        seen.options = options;
        seen.json = io.json;
        return body(options, io);
      }),
  }));
  return { code: await runProgram(line, definitions, { openIo }), ...seen };
}

const SFT = ["sft", "--model", "m", "--dataset", "d", "--output_dir", "o"];
const PPO = ["ppo", "--model", "m", "--dataset", "d", "--output_dir", "o", "--reward_model", "r"];

Deno.test("flags are accepted with underscores, with hyphens, and with an equals sign", async () => {
  for (const flags of [["--kl_coef", "0.2"], ["--kl-coef", "0.2"], ["--kl-coef=0.2"], ["--beta", "0.2"]]) {
    const { code, options } = await run([...PPO, ...flags]);
    assert.deepEqual([code, options?.klCoef], [0, 0.2]);
  }
});

Deno.test("booleans are flags, or flags with a value", async () => {
  const value = async (...flags: string[]) => (await run([...SFT, ...flags])).options?.packing;
  assert.equal(await value(), false);
  assert.equal(await value("--packing"), true);
  assert.equal(await value("--packing", "--max_steps", "3"), true);
  assert.equal(await value("--packing", "false"), false);
  assert.equal(await value("--no-packing"), false);
  assert.equal(await value("--no_packing"), false);
});

Deno.test("negative numbers are values", async () => {
  assert.equal((await run([...SFT, "--max_steps", "-1"])).options?.maxSteps, -1);
});

Deno.test("the exit code is that of the command, and 1 with one message where it fails", async () => {
  assert.equal((await run(SFT, () => Promise.resolve(130))).code, 130);
  const fail = () => Promise.reject(new Error("The dataset is empty."));
  const { code, err, out } = await run(SFT, fail);
  assert.deepEqual([code, err, out], [1, "The dataset is empty.\n", ""]);
  assert.match((await run([...SFT, "--debug"], fail)).err, /The dataset is empty\.\n\s+at /);
});

Deno.test("wrong usage exits with 2 and runs nothing", async () => {
  const wrong: [string[], RegExp][] = [
    [[], /^Usage: keel/],
    [["sfft"], /There is no command "sfft"\. Did you mean sft\?/],
    [["ppo"], /--model_name_or_path is missing/],
    [[...SFT, "--learning-rat", "1"], /--learning_rat is not an option.*learning_rate/],
    [[...SFT, "--learning_rate"], /argument missing/],
    [[...SFT, "extra"], /Got "extra"/],
    [[...SFT, "--packing", "maybe"], /--packing: got "maybe", expected true or false/],
    [["--nonsense"], /Unknown option --nonsense\. A command comes first/],
    [["sfft", "--learning_rate", "1"], /There is no command "sfft"\. Did you mean sft\?/],
  ];
  for (const [line, message] of wrong) {
    const { code, err, options } = await run(line);
    assert.equal(code, 2, line.join(" "));
    assert.match(err, message);
    assert.equal(options, undefined);
  }
});

Deno.test("notes about fields without a meaning go to standard error", async () => {
  const { code, err, out } = await run([...SFT, "--bf16", "--run_name", "mine"]);
  assert.equal(code, 0);
  assert.match(err, /--bf16 has no effect.*\n.*--run_name has no effect/);
  assert.equal(out, "");
});

Deno.test("--json reaches the command", async () => {
  assert.equal((await run(["doctor", "--json"])).json, true);
  assert.equal((await run(["doctor"])).json, false);
});

Deno.test("help is a result, groups the options and shows defaults and examples", async () => {
  for (const [name, { examples }] of Object.entries(DESCRIPTIONS)) {
    const { code, out, err } = await run([name, "--help"]);
    assert.deepEqual([code, err], [0, ""]);
    assert.ok(examples.length >= 2);
    for (const [line] of examples) assert.ok(out.includes(`keel ${line}`));
  }
  const out = (await run(["ppo", "--help"])).out.replaceAll(/\s+/g, " ");
  for (
    const text of [
      "KL penalty:",
      "--kl_coef <x>",
      "(default: 0.05)",
      "3e-6",
      "One of k1, k2, k3, abs, exact, kl, mse, full.",
    ]
  ) {
    assert.ok(out.includes(text), text);
  }
  assert.match((await run(["--help"])).out, /Commands:[^]*sft/);
});

Deno.test("every example in the help is a valid command line", async () => {
  for (const { examples } of Object.values(DESCRIPTIONS)) {
    for (const [line] of examples) {
      if (line.includes("--config")) continue;
      const { code, err } = await run(line.split(" "));
      assert.equal(code, 0, `${line}: ${err}`);
    }
  }
});
