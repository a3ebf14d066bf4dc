/**
 * The bodies of the commands.
 *
 * @module
 */
import type { DESCRIPTIONS } from "./catalogue.ts";
import type { CommandBody } from "./program.ts";

/** Name of a command. */
export type CommandName = keyof typeof DESCRIPTIONS;

/** The body of a command; only what is run is loaded. */
export async function loadCommand(name: CommandName): Promise<CommandBody> {
  switch (name) {
    case "train":
      return (await import("./commands/train.ts")).run;
    case "sft":
      return (await import("./commands/sft.ts")).run;
    case "reward":
      return (await import("./commands/reward.ts")).run;
    case "dpo":
      return (await import("./commands/dpo.ts")).run;
    case "kto":
      return (await import("./commands/kto.ts")).run;
    case "orpo":
      return (await import("./commands/orpo.ts")).run;
    case "cpo":
      return (await import("./commands/cpo.ts")).run;
    case "ppo":
      return (await import("./commands/ppo.ts")).run;
    case "label":
      return (await import("./commands/label.ts")).run;
    case "rlaif":
      return (await import("./commands/rlaif.ts")).run;
    case "grpo":
      return (await import("./commands/grpo.ts")).run;
    case "rloo":
      return (await import("./commands/rloo.ts")).run;
    case "reinforce":
      return (await import("./commands/reinforce.ts")).run;
    case "online-dpo":
      return (await import("./commands/online_dpo.ts")).run;
    case "bon":
      return (await import("./commands/bon.ts")).run;
    case "pretrain":
      return (await import("./commands/pretrain.ts")).run;
    case "sample":
      return (await import("./commands/sample.ts")).run;
    case "chat":
      return (await import("./commands/chat.ts")).run;
    case "data":
      return (await import("./commands/data.ts")).run;
    case "eval":
      return (await import("./commands/eval.ts")).run;
    case "export":
      return (await import("./commands/export.ts")).run;
    case "score":
      return (await import("./commands/score.ts")).run;
    case "replay":
      return (await import("./commands/replay.ts")).run;
    case "serve":
      return (await import("./commands/serve.ts")).run;
    case "doctor":
      return (await import("./commands/doctor.ts")).run;
  }
}
