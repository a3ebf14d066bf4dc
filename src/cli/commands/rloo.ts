/**
 * `keel rloo`: a policy against rewards, each compared with the others of its prompt.
 *
 * @module
 */
import { checkRloo, rloo } from "../../train/rloo.ts";
import { onlineCommand } from "../online_session.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = onlineCommand("rloo", rloo, checkRloo);
