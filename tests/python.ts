/**
 * Python with the packages of `python/requirements.txt`, for the tests that need it: the executable named by KEEL_TEST_PYTHON,
 * which `.ci/run` sets up.
 */
import assert from "node:assert/strict";
import { delimiter, dirname } from "node:path";

const executable = Deno.env.get("KEEL_TEST_PYTHON") || undefined;

/** A test that is skipped, visibly, where there is no such Python. */
export function pythonTest(name: string, fn: () => void | Promise<void>): void {
  if (executable === undefined) {
    Deno.test({ name: `${name} (skipped: no KEEL_TEST_PYTHON)`, ignore: true, fn });
  } else Deno.test(name, fn);
}

/** Milliseconds after which Python is stopped: a notebook may wait for what will never come. */
const LONGEST = 4 * 60_000;

/** Runs Python to its end, which must be a good one; returns what it printed. Only within a {@linkcode pythonTest}. */
export async function python(
  args: string[],
  { cwd, env = {} }: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  // As in an activated environment: its programs come first.
  const path = [dirname(executable!), Deno.env.get("PATH")].join(delimiter);
  const child = new Deno.Command(executable!, {
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
