/**
 * The program `keel`.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted after a checkpoint.
 *
 * @module
 */
import { DESCRIPTIONS } from "./catalogue.ts";
import { loadCommand } from "./commands.ts";
import { type CommandDescription, runProgram } from "./program.ts";

if (import.meta.main) {
  // A task runs in the project's folder; paths on the command line are meant from where the user is.
  const directory = Deno.env.get("INIT_CWD");
  if (directory) Deno.chdir(directory);
  const definitions = (Object.keys(DESCRIPTIONS) as (keyof typeof DESCRIPTIONS)[]).map((name) => {
    const description: CommandDescription = DESCRIPTIONS[name];
    return { ...description, load: () => loadCommand(name) };
  });
  Deno.exit(await runProgram(Deno.args, definitions));
}
