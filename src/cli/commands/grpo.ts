/**
 * `keel grpo`: a policy against rewards that are compared within groups of completions.
 *
 * @module
 */
import { checkGrpo, grpo } from "../../train/grpo.ts";
import { onlineCommand } from "../online_session.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = onlineCommand("grpo", grpo, checkGrpo);
