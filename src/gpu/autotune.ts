/**
 * Choosing matmul tiles by measurement: on a GPU no rule fits all, and one tile for all shapes costs up to half of the speed.
 *
 * Each shape class is timed once with every tile, in turns; the result is kept on disk by adapter and kernel text, so it costs a
 * fraction of a second once. Sums run over k in one order whatever the tile, so tuning does not change a bit of any result.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { Profile } from "../../kernels/kernel.ts";
import { matmul, type Trans } from "../../kernels/matmul.ts";
import { gpuMatmul, shapeClass } from "../../kernels/matmul_gpu.ts";
import { allocate } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { prepare, type Program, submit } from "./run.ts";

type Tile = 32 | 64;

const TILES: Tile[] = [32, 64];
const TRANSPOSITIONS: Trans[] = ["nn", "nt", "tn"];

/** One shape of each class. */
const SHAPES: [m: number, n: number, k: number][] = [[64, 512, 256], [512, 512, 256], [768, 768, 256]];

/** Timed runs of each candidate. */
const ROUNDS = 3;

/** A tile other than the first must be faster by this to be taken: smaller differences are noise. */
const MARGIN = 1.05;

/** Where results are kept when keel lies on a disk. */
const DEFAULT_FILE = new URL("../../.cache/matmul_tiles.json", import.meta.url);

/** The measured tiles of this adapter by shape class, from the file or measured now. */
export async function tunedTiles(gpu: Gpu, file?: string): Promise<Profile["tiles"]> {
  const path = file ?? (DEFAULT_FILE.protocol === "file:" ? fileURLToPath(DEFAULT_FILE) : undefined);
  const key = tuningKey(gpu);
  const known = path === undefined ? {} : readResults(path);
  if (known[key]) return known[key];
  const tiles = await measure(gpu);
  if (path !== undefined) writeResults(path, { ...known, [key]: tiles });
  return tiles;
}

/** What a result depends on: the adapter, and the text of the kernels. */
function tuningKey({ info }: Gpu): string {
  const variants = TRANSPOSITIONS.map((trans) => ({
    trans,
    tail: false,
    bias: false,
    residual: false,
    accumulate: false,
    storage: "F32" as const,
  }));
  const text = TILES.flatMap((tile) => variants.map((variant) => gpuMatmul(tile, variant).code)).join("\n");
  return [info.name, info.vendor, createHash("sha256").update(text).digest("hex").slice(0, 16)].join(" | ");
}

async function measure(gpu: Gpu): Promise<Record<string, Tile>> {
  const tiles: Record<string, Tile> = {};
  for (const [m, n, k] of SHAPES) {
    const buffers = { a: allocate(gpu, m * k * 4), b: allocate(gpu, n * k * 4), c: allocate(gpu, m * n * 4) };
    for (const trans of TRANSPOSITIONS) {
      const programs = TILES.map((tile) => {
        const profile: Profile = { ...gpu.profile, tiles: { [shapeClass(trans, m, n)]: tile } };
        return prepare(gpu, [matmul(profile, buffers, { trans, m, n, k })]);
      });
      const times = await inTurns(gpu, programs);
      tiles[shapeClass(trans, m, n)] = times[0] > times[1] * MARGIN ? TILES[1] : TILES[0];
      for (const program of programs) program.destroy();
    }
    for (const { buffer } of Object.values(buffers)) buffer.destroy();
  }
  return tiles;
}

/** Median milliseconds of each program; every round runs each once. */
async function inTurns(gpu: Gpu, programs: Program[]): Promise<number[]> {
  const once = async (program: Program, times: number) => {
    const started = performance.now();
    submit(gpu, program, times);
    await gpu.readback.wait();
    return performance.now() - started;
  };
  // Long enough that the submission itself does not count.
  const times = Math.max(1, Math.min(50, Math.round(5 / await once(programs[0], 1))));
  const samples: number[][] = programs.map(() => []);
  for (const program of programs) await once(program, 1);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, program] of programs.entries()) samples[i].push(await once(program, times));
  }
  return samples.map((all) => all.sort((a, b) => a - b)[ROUNDS >> 1]);
}

/** Results by key; a file that cannot be read is as good as none, it is only a cache. */
function readResults(path: string): Record<string, Record<string, Tile>> {
  if (!existsSync(path)) return {};
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
}

/** Writes the cache where that is possible; without it the next start measures again. */
function writeResults(path: string, results: Record<string, Record<string, Tile>>): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.tmp`, JSON.stringify(results, null, 2));
    renameSync(`${path}.tmp`, path);
  } catch {
    // A read-only installation.
  }
}
