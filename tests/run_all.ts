/**
 * Everything CI runs: the checks of `deno task check`, then the tests. The last line is `N passed, N failed, N skipped`, in
 * which the checks count as one test.
 */

/** Permissions of the tests: they start keel and other programs, and listen on this machine. */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-run",
  "--allow-sys",
  "--allow-net=127.0.0.1",
  "--allow-ffi",
];

interface Outcome {
  success: boolean;
  signal: string | null;
  output: string;
  /** It was stopped because it had been silent for too long. */
  hung: boolean;
}

/** Silence after which a process counts as hung; the longest test says every two minutes that it goes on. */
const LONGEST_SILENCE = 6 * 60_000;

/** Runs Deno, passes its output on and returns it. */
async function runDeno(args: string[]): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "", hung = false;
  const stop = () => {
    hung = true;
    child.kill("SIGKILL");
  };
  let watchdog = setTimeout(stop, LONGEST_SILENCE);
  const pass = async (from: ReadableStream<Uint8Array>, to: typeof Deno.stdout) => {
    const decoder = new TextDecoder();
    for await (const chunk of from) {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, LONGEST_SILENCE);
      output += decoder.decode(chunk, { stream: true });
      for (let at = 0; at < chunk.length;) at += to.writeSync(chunk.subarray(at));
    }
  };
  await Promise.all([pass(child.stdout, Deno.stdout), pass(child.stderr, Deno.stderr)]);
  const { success, signal } = await child.status;
  clearTimeout(watchdog);
  return { success, signal, output, hung };
}

const checks = await runDeno(["task", "--quiet", "check"]);
const command = ["test", "--frozen", ...PERMISSIONS, ...Deno.args];
let tests = await runDeno(command);
if (tests.hung) {
  // Seen once in many runs, in a driver's call that never returned: said aloud, and tried once more.
  console.log(`\nThe tests hung after:${tests.output.slice(-500)}\nThey were stopped and are run once more.`);
  tests = await runDeno(command);
}

const summary = /\| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/
  .exec(tests.output.slice(-2000));
const [passed, failed, skipped] = summary ? summary.slice(1).map((count) => Number(count ?? 0)) : [0, 0, 0];
// A run without a summary, or with an error outside every test, is a failure that no test stands for.
// But software drivers have been seen to crash in their exit handlers, after the summary of a run in which all passed.
const crashedAtExit = tests.signal !== null && /^ok \| \d+ passed/m.test(tests.output.slice(-2000));
if (crashedAtExit) {
  console.log(`\nThe process was ended by ${tests.signal} after its last test; all tests had run.`);
}
const unnamed = !tests.success && failed === 0 && !crashedAtExit ? 1 : 0;
const allFailed = failed + unnamed + (checks.success ? 0 : 1);
console.log(`\n${passed + (checks.success ? 1 : 0)} passed, ${allFailed} failed, ${skipped} skipped`);
Deno.exit(allFailed === 0 ? 0 : 1);
