/** Matmul tiles are measured once per adapter, kept on disk, and do not change results. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { matmul } from "../../kernels/matmul.ts";
import { shapeClass } from "../../kernels/matmul_gpu.ts";
import { allocate, readFloats, upload } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { randomStream } from "../../src/random/stream.ts";
import { withDirectory } from "../assets.ts";

Deno.test("tiles are measured once, read back from the file, and give the same bits", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "cache", "tiles.json");
    const first = await openGpu({ profile: "gpu", tuningFile: file });
    const tiles = first.profile.tiles!;
    assert.equal(Object.keys(tiles).length, 9);
    const [key, stored] = Object.entries(JSON.parse(Deno.readTextFileSync(file)))[0];
    assert.ok(key.startsWith(first.info.name));
    assert.deepEqual(stored, tiles);

    // What the file says is believed.
    Deno.writeTextFileSync(file, JSON.stringify({ [key]: { ...tiles, "nn few": 64 } }));
    const second = await openGpu({ profile: "gpu", tuningFile: file });
    assert.equal(second.profile.tiles!["nn few"], 64);

    const rng = randomStream(5, "tiles"), m = 77, n = 90, k = 61;
    const data = (size: number) => Float32Array.from({ length: size }, () => rng.uniform() - 0.5);
    const a = data(m * 64), b = data(k * 92);
    for (let r = 0; r < m; r++) a.fill(0, r * 64 + k, r * 64 + 64);
    for (let r = 0; r < k; r++) b.fill(0, r * 92 + n, r * 92 + 92);
    const results = await Promise.all(([32, 64] as const).map(async (tile) => {
      const profile = { ...second.profile, tiles: { [shapeClass("nn", m, n)]: tile } };
      const c = allocate(second, m * 92 * 4);
      runOnce(second, [
        matmul(profile, { a: upload(second, a), b: upload(second, b), c }, { trans: "nn", m, n, k }),
      ]);
      return await readFloats(second, c);
    }));
    assert.deepEqual(results[0], results[1]);
    first.close();
    second.close();
  });
});
