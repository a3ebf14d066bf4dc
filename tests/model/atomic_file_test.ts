import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileAtomically, writeTextAtomically } from "../../src/model/atomic_file.ts";
import { withDirectory } from "../assets.ts";

Deno.test("a write that fails half-way leaves the old content and no temporary file", () =>
  withDirectory((directory) => {
    const path = join(directory, "state.json");
    writeTextAtomically(path, "old é");
    function* broken(): Generator<Uint8Array> {
      yield new Uint8Array(1000);
      throw new Error("the disk is full");
    }
    assert.throws(() => writeFileAtomically(path, broken()), /Cannot write .*state\.json: the disk is full/);
    assert.equal(Deno.readTextFileSync(path), "old é");
    writeTextAtomically(path, "new");
    assert.equal(Deno.readTextFileSync(path), "new");
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["state.json"]);
  }));
