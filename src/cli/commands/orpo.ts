/**
 * `keel orpo`: a policy from pairs of answers, without a reference.
 *
 * @module
 */
import { orpo } from "../../train/orpo.ts";
import { checkOrpoMemory } from "../../train/preference_needs.ts";
import type { CommandBody } from "../program.ts";
import { referenceFreeCommand } from "../reference_free_session.ts";

/** Runs the command. */
export const run: CommandBody = referenceFreeCommand("orpo", orpo, checkOrpoMemory);
