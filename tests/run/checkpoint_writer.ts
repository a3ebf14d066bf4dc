/** Writes checkpoints of rising steps into the directory in the first argument, for ever. */
import { type CheckpointFiles, writeCheckpoint } from "../../src/run/checkpoint.ts";
import { numbers } from "./numbers.ts";

for (let step = Number(Deno.args[1]);; step++) {
  const files: CheckpointFiles = {};
  for (const name of ["model", "optimizer", "value_model"]) {
    files[name] = { weight: { shape: [257, 31], data: numbers(step, 257 * 31) } };
  }
  writeCheckpoint(Deno.args[0], step, { files, state: { step, cursor: step * 3 } }, { saveTotalLimit: 2 });
  if (step === Number(Deno.args[1])) console.log("first");
}
