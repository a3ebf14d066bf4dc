/**
 * The program `keel`.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted after a checkpoint.
 *
 * @module
 */
import { type CommandDescription, DESCRIPTIONS } from "./catalogue.ts";
import { type CommandBody, runProgram } from "./program.ts";

/** The body of a command; only what is run is loaded. */
async function load(name: keyof typeof DESCRIPTIONS): Promise<CommandBody> {
  switch (name) {
    case "train":
      return (await import("./commands/train.ts")).run;
    case "sft":
      return (await import("./commands/sft.ts")).run;
    case "reward":
      return (await import("./commands/reward.ts")).run;
    case "ppo":
      return (await import("./commands/ppo.ts")).run;
    case "pretrain":
      return (await import("./commands/pretrain.ts")).run;
    case "sample":
      return (await import("./commands/sample.ts")).run;
    case "score":
      return (await import("./commands/score.ts")).run;
    case "doctor":
      return (await import("./commands/doctor.ts")).run;
  }
}

if (import.meta.main) {
  // A task runs in the project's folder; paths on the command line are meant from where the user is.
  const directory = Deno.env.get("INIT_CWD");
  if (directory) Deno.chdir(directory);
  const definitions = (Object.keys(DESCRIPTIONS) as (keyof typeof DESCRIPTIONS)[]).map((name) => {
    const description: CommandDescription = DESCRIPTIONS[name];
    return { ...description, load: () => load(name) };
  });
  Deno.exit(await runProgram(Deno.args, definitions));
}
