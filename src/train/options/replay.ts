/**
 * Options of running a run again.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, GROUPS, option } from "./common.ts";

/** Options of `replay`. */
export interface ReplayOptions {
  /** The run directory. */
  run: string;
  /** Where the second run goes; beside the first if not given. */
  outputDir?: string;
  /** Replaces a run that is in `outputDir`. */
  overwriteOutputDir: boolean;
}

/** Schema of {@linkcode ReplayOptions}. */
export const replaySchema = z.strictObject({
  run: option(GROUPS.data, "The run directory.", z.string().min(1)),
  outputDir: option(
    GROUPS.output,
    "Where the second run goes; the first one's directory with -replay if not given.",
    z.string().min(1).optional(),
  ),
  overwriteOutputDir: option(
    GROUPS.output,
    "Replace the run that is in output_dir.",
    z.boolean().default(false),
  ),
});

true satisfies Agree<z.output<typeof replaySchema>, ReplayOptions>;
