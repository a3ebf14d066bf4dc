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
  output: string;
}

/** Silence after which a process counts as hung and is stopped; the longest test says every two minutes that it goes on. */
const LONGEST_SILENCE = 6 * 60_000;

/** Runs Deno, passes its output on and returns it. */
async function runDeno(args: string[]): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const stop = () => {
    console.log(`\nNothing was heard of it for ${LONGEST_SILENCE / 60_000} minutes: it is stopped.`);
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
  const { success } = await child.status;
  clearTimeout(watchdog);
  return { success, output };
}

const checks = await runDeno(["task", "--quiet", "check"]);
const tests = await runDeno(["test", "--frozen", ...PERMISSIONS, ...Deno.args]);

const summary = /\| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/
  .exec(tests.output.slice(-2000));
const [passed, failed, skipped] = summary ? summary.slice(1).map((count) => Number(count ?? 0)) : [0, 0, 0];
// A run without a summary, or with an error outside every test, is a failure that no test stands for.
const unnamed = !tests.success && failed === 0 ? 1 : 0;
const allFailed = failed + unnamed + (checks.success ? 0 : 1);
console.log(`\n${passed + (checks.success ? 1 : 0)} passed, ${allFailed} failed, ${skipped} skipped`);
Deno.exit(allFailed === 0 ? 0 : 1);
