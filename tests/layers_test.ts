import assert from "node:assert/strict";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Folders from the bottom up. One may import from itself and from rows below its own. */
const LAYERS = [
  ["kernels"],
  ["src/random", "src/gpu"],
  ["src/tape"],
  ["src/model"],
  ["src/hub"],
  ["src/data"],
  ["src/rl", "src/sample", "src/parrot", "src/watch", "src/run", "src/reward"],
  ["src/train"],
  ["serve"],
  ["src/cli"],
];

function* sources(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(join(ROOT, folder))) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sources(path);
    else if (path.endsWith(".ts")) yield path;
  }
}

/** Everything that a file imports, statically or dynamically, or re-exports. */
function specifiers(path: string): string[] {
  const text = Deno.readTextFileSync(join(ROOT, path)).replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, "");
  return Array.from(text.matchAll(/(?:\bfrom|\bimport\(?)\s*["']([^"']+)["']/g), (match) => match[1]);
}

function layerOf(path: string): { folder: string; height: number } | undefined {
  for (const [height, folders] of LAYERS.entries()) {
    const folder = folders.find((one) => path.startsWith(`${one}/`));
    if (folder) return { folder, height };
  }
}

const files = LAYERS.flat().flatMap((folder) => [...sources(folder)]);

Deno.test("imports go downwards only", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const own = layerOf(file)!;
    for (const specifier of specifiers(file)) {
      if (!specifier.startsWith(".")) continue;
      const target = normalize(join(dirname(file), specifier));
      if (target === "deno.json") continue;
      const other = layerOf(target);
      if (!other) wrong.push(`${file} imports ${target}, which is in no layer`);
      else if (other.folder !== own.folder && other.height >= own.height) {
        wrong.push(`${file} imports ${target}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

Deno.test("every folder of src is in a layer", () => {
  const folders = Array.from(Deno.readDirSync(join(ROOT, "src")), ({ name }) => `src/${name}`);
  assert.deepEqual(folders.filter((folder) => !LAYERS.flat().includes(folder)), []);
});

Deno.test("packages are imported by the names in deno.json, and none is from jsr", () => {
  const { imports } = JSON.parse(Deno.readTextFileSync(join(ROOT, "deno.json")));
  for (const [name, target] of Object.entries(imports)) {
    assert.match(target as string, /^npm:.+@\d+\.\d+\.\d+$/, `${name} is pinned to one version on npm`);
  }
  const foreign = files.flatMap((file) =>
    specifiers(file)
      .filter((specifier) => !specifier.startsWith(".") && !specifier.startsWith("node:"))
      .filter((specifier) =>
        !Object.keys(imports).some((name) => specifier === name || specifier.startsWith(`${name}/`))
      )
      .map((specifier) => `${file} imports ${specifier}`)
  );
  assert.deepEqual(foreign, []);
});
