/**
 * `keel cpo`: a policy from pairs of answers, without a reference.
 *
 * @module
 */
import { cpo } from "../../train/cpo.ts";
import { checkCpoMemory } from "../../train/preference_needs.ts";
import type { CommandBody } from "../program.ts";
import { referenceFreeCommand } from "../reference_free_session.ts";

/** Runs the command. */
export const run: CommandBody = referenceFreeCommand("cpo", cpo, checkCpoMemory);
