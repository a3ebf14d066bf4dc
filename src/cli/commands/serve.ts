/**
 * `keel serve`: runs over HTTP, until Ctrl-C.
 *
 * @module
 */
import { createServer } from "../../../serve/server.ts";
import type { ServeOptions } from "../../train/options/serve.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const options = given as unknown as ServeOptions;
  const server = createServer({ ...options, say: io.note });
  const { url } = server.listen();
  if (io.json) io.print(JSON.stringify({ url }));
  io.note(
    `Serving the runs in ${options.runsDir} at ${url}; ${url}/openapi.json describes it. Ctrl-C ends it.`,
  );
  await signalled();
  const going = server.going();
  await server.close();
  const back = `keel serve --runs_dir ${options.runsDir}`;
  io.note(
    going.length
      ? `The server has ended; ${going.join(", ")} ${going.length === 1 ? "goes" : "go"} on. ${back} finds ${
        going.length === 1 ? "it" : "them"
      } again.`
      : `The server has ended. ${back} starts it again.`,
  );
};

/** Resolves at Ctrl-C or SIGTERM; once more ends the process at once. */
function signalled(): Promise<void> {
  // Windows has no SIGTERM.
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"];
  return new Promise((resolve) => {
    const listener = () => {
      for (const signal of signals) Deno.removeSignalListener(signal, listener);
      resolve();
    };
    for (const signal of signals) Deno.addSignalListener(signal, listener);
  });
}
