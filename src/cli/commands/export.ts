/**
 * `keel export`: a model in another form.
 *
 * @module
 */
import { existsSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { type Exported, exportGguf, exportHuggingFace, exportPeft } from "../../model/export.ts";
import type { ExportOptions } from "../../train/options/export.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";
import { UsageError } from "../usage_error.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<ExportOptions>(withRun(given), io);
  const { output, overwrite } = options;
  if (existsSync(output)) {
    if (!overwrite) {
      throw new Error(`There is something at ${output} already. Give --overwrite to replace it.`);
    }
    if (resolve(options.modelNameOrPath).startsWith(resolve(output))) {
      throw new Error(`Cannot replace ${output}: it is what is exported.`);
    }
    rmSync(output, { recursive: true });
  }
  const { parameters, notes } = write(options);
  for (const note of notes) io.note(note);
  io.note(`${parameters.toLocaleString("en")} parameters.`);
  io.print(io.json ? JSON.stringify({ output, parameters, notes }) : output);
};

function write(options: ExportOptions): Exported {
  const { modelNameOrPath: from, output, dtype, baseModel } = options;
  const format = options.format ?? (output.endsWith(".gguf") ? "gguf" : "hf");
  if (baseModel !== undefined && format !== "peft") {
    throw new UsageError("--base_model names the base of an adapter. Give --format peft with it.");
  }
  switch (format) {
    case "gguf":
      if (dtype === "bf16") throw new UsageError("A GGUF file is written as f32, f16 or q8_0, not as bf16.");
      return exportGguf(from, output, dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "Q8_0");
    case "hf":
      if (dtype === "q8_0") {
        throw new UsageError(
          "A Hugging Face directory is written as f32, f16 or bf16. For q8_0 give --format gguf.",
        );
      }
      return exportHuggingFace(from, output, dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "BF16");
    case "peft":
      if (dtype !== "f32") {
        throw new UsageError("Adapters are written as they are, in f32. Leave out --dtype.");
      }
      return exportPeft(from, output, baseModel);
  }
}
