/**
 * `keel export`: a model in another form.
 *
 * @module
 */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { type Exported, exportGguf, exportHuggingFace, exportPeft } from "../../model/export.ts";
import { baseOf, isAdapterDirectory } from "../../model/peft.ts";
import type { ExportOptions } from "../../train/options/export.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";
import { UsageError } from "../usage_error.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<ExportOptions>(withRun(given, { anyKind: true }), io);
  const { output, overwrite, modelNameOrPath: from } = options;
  const write = writerOf(options);
  if (existsSync(output)) {
    if (!overwrite) {
      throw new Error(`There is something at ${output} already. Give --overwrite to replace it.`);
    }
    const needed = [from, ...(isAdapterDirectory(from) ? [baseOf(from)] : [])].find((path) =>
      holds(output, path)
    );
    if (needed !== undefined) {
      throw new Error(
        `Cannot replace ${output}: ${
          needed === from ? "it is what is exported" : "it is the adapter's base"
        }.`,
      );
    }
  }
  // What is there stays until the new is whole.
  const parent = dirname(resolve(output));
  mkdirSync(parent, { recursive: true });
  const scratch = mkdtempSync(join(parent, ".keel-export-"));
  try {
    const made = join(scratch, basename(output)), { parameters, notes } = write(made);
    rmSync(output, { recursive: true, force: true });
    renameSync(made, output);
    for (const note of notes) io.note(note);
    io.note(`${parameters.toLocaleString("en")} parameters.`);
    io.print(io.json ? JSON.stringify({ output, parameters, notes }) : output);
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

/** Whether a path is another, or lies within it. */
function holds(whole: string, path: string): boolean {
  return !relative(realpathSync(whole), realpathSync(path)).startsWith("..");
}

/** What writes the model to a path; wrong usage is found before anything is written. */
function writerOf(options: ExportOptions): (to: string) => Exported {
  const { modelNameOrPath: from, output, dtype, baseModel } = options;
  const format = options.format ?? (output.endsWith(".gguf") ? "gguf" : "hf");
  if (baseModel !== undefined && format !== "peft") {
    throw new UsageError("--base_model names the base of an adapter. Give --format peft with it.");
  }
  switch (format) {
    case "gguf":
      if (dtype === "bf16") throw new UsageError("A GGUF file is written as f32, f16 or q8_0, not as bf16.");
      return (to) => exportGguf(from, to, dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "Q8_0");
    case "hf":
      if (dtype === "q8_0") {
        throw new UsageError(
          "A Hugging Face directory is written as f32, f16 or bf16. For q8_0 give --format gguf.",
        );
      }
      return (to) => exportHuggingFace(from, to, dtype === "f32" ? "F32" : dtype === "f16" ? "F16" : "BF16");
    case "peft":
      if (dtype !== "f32") {
        throw new UsageError("Adapters are written as they are, in f32. Leave out --dtype.");
      }
      return (to) => exportPeft(from, to, baseModel);
  }
}
