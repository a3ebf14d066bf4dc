/**
 * What the commands are called, what they say of themselves and which options they have.
 *
 * @module
 */
import { TOOLS } from "./catalogue_tools.ts";
import { TRAINING } from "./catalogue_training.ts";

/** Descriptions by name, in the order of `--help`. */
export const DESCRIPTIONS = { ...TRAINING, ...TOOLS };
