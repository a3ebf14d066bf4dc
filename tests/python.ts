/**
 * Python with the packages of `python/requirements.txt`, for the tests that need it: the executable named by KEEL_TEST_PYTHON,
 * which `.ci/run` sets up; and one with PyTorch, of `python/models_requirements.txt`, named by KEEL_TEST_MODELS_PYTHON.
 */
import assert from "node:assert/strict";
import { delimiter, dirname } from "node:path";

type Variable = "KEEL_TEST_PYTHON" | "KEEL_TEST_MODELS_PYTHON";

function testWith(variable: Variable, name: string, fn: () => void | Promise<void>): void {
  if (Deno.env.get(variable)) Deno.test(name, fn);
  else Deno.test({ name: `${name} (skipped: no ${variable})`, ignore: true, fn });
}

/** A test that is skipped, visibly, where there is no such Python. */
export function pythonTest(name: string, fn: () => void | Promise<void>): void {
  testWith("KEEL_TEST_PYTHON", name, fn);
}

/** Likewise, for one that needs PyTorch, transformers and PEFT. */
export function modelsPythonTest(name: string, fn: () => void | Promise<void>): void {
  testWith("KEEL_TEST_MODELS_PYTHON", name, fn);
}

/** Milliseconds after which Python is stopped: a notebook may wait for what will never come. */
const LONGEST = 4 * 60_000;

interface Settings {
  cwd?: string;
  env?: Record<string, string>;
}

/** Runs Python to its end, which must be a good one; returns what it printed. Only within a {@linkcode pythonTest}. */
export function python(args: string[], settings: Settings = {}): Promise<string> {
  return runPython("KEEL_TEST_PYTHON", args, settings);
}

/** Likewise, only within a {@linkcode modelsPythonTest}. */
export function modelsPython(args: string[], settings: Settings = {}): Promise<string> {
  return runPython("KEEL_TEST_MODELS_PYTHON", args, settings);
}

async function runPython(variable: Variable, args: string[], { cwd, env = {} }: Settings): Promise<string> {
  const executable = Deno.env.get(variable)!;
  // As in an activated environment: its programs come first.
  const path = [dirname(executable), Deno.env.get("PATH")].join(delimiter);
  const child = new Deno.Command(executable, {
    args,
    cwd,
    env: { PATH: path, ...env },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const late = setTimeout(() => child.kill(), LONGEST);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(late);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.equal(code, 0, `python ${args.join(" ")}\n${text(stdout)}\n${text(stderr)}`);
  return text(stdout);
}
