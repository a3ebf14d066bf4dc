/**
 * `keel reinforce`: a policy against rewards without critic or groups.
 *
 * @module
 */
import { checkReinforce, reinforce } from "../../train/reinforce.ts";
import { onlineCommand } from "../online_session.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = onlineCommand("reinforce", reinforce, checkReinforce);
