/** Which revision and which files a name stands for, offline and online, and what is said of names that stand for nothing. */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { resolveDataset, resolveModel } from "../../src/hub/resolve.ts";
import type { HubSettings } from "../../src/hub/settings.ts";
import type { FetchProgress } from "../../src/hub/snapshot.ts";
import { withDirectory } from "../assets.ts";
import { python, pythonTest } from "../python.ts";
import {
  commit,
  failure,
  type HubFiles,
  type HubRepo,
  repoOf,
  startHub,
  type TestHub,
  text,
} from "./server.ts";

const CONFIG = { "config.json": text("{}"), "tokenizer.json": text("{}") };
const weights = (content: string) => ({ ...text(content), large: true });

interface Case {
  hub: TestHub;
  settings: HubSettings;
  said: string[];
  say: (line: string) => void;
}

function withHub(repos: Record<string, HubRepo>, use: (one: Case) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    const cache = join(directory, "cache"), hub = startHub(repos), said: string[] = [];
    const settings = { endpoint: hub.endpoint, cache, offline: false, waits: [1], patience: 5000 };
    try {
      await use({ hub, settings, said, say: (line) => void said.push(line) });
    } finally {
      await hub.close();
    }
  });
}

const one = (files: HubFiles) => ({ "models/org/m": repoOf(files) });
const names = (directory: string) => Array.from(Deno.readDirSync(directory), ({ name }) => name).sort();

Deno.test("a path that exists is itself, whatever it looks like, and asks nobody", () =>
  withHub({}, async ({ hub, ...options }) => {
    await withDirectory(async (directory) => {
      const before = Deno.cwd();
      Deno.mkdirSync(join(directory, "org/m"), { recursive: true });
      try {
        Deno.chdir(directory);
        for (const path of ["org/m", "./org/m", join(directory, "org")]) {
          assert.deepEqual(await resolveModel(path, options), { path, name: path });
          assert.deepEqual(await resolveDataset(path, options), { path, name: path });
        }
      } finally {
        Deno.chdir(before);
      }
    });
    const nothing =
      /Cannot use .*: the file does not exist, and it is no name on the Hub either\. Expected a Hugging Face directory/;
    const bad = [
      "gpt2",
      "/no/m",
      "./org/m",
      "runs/ppo/model",
      "a/b/c/d",
      "org/m.gguf",
      "org/../m",
      "-a/b",
      "org/a--b",
      "a b/c",
    ];
    for (
      const name of [
        ...bad,
        "org/m:../x.gguf",
        "org/m@a..b",
        "org/m@",
        "org/m/x.gguf:y.gguf",
        "org/" + "m".repeat(97),
      ]
    ) {
      await assert.rejects(resolveModel(name, options), nothing, name);
    }
    // Whoever reads a dataset says what is wrong with its path.
    assert.deepEqual(await resolveDataset("data/no.jsonl", options), {
      path: "data/no.jsonl",
      name: "data/no.jsonl",
    });
    assert.deepEqual(hub.seen, []);
  }));

Deno.test("a revision is a branch, a tag or a commit, and the name that comes back says which commit", async () => {
  const repo = {
    commits: {
      [commit("a")]: { ...CONFIG, "model.safetensors": weights("old") },
      [commit("b")]: { ...CONFIG, "model.safetensors": weights("new") },
    },
    refs: { main: commit("b"), "refs/pr/1": commit("a"), "v1.0": commit("a") },
  };
  await withHub({ "models/org/m": repo }, async ({ hub, ...options }) => {
    const check = async (name: string, digit: string, revision?: string) => {
      const { path, name: exact } = await resolveModel(name, { ...options, revision });
      assert.equal(exact, `org/m@${commit(digit)}`, name);
      assert.equal(basename(path), commit(digit));
      assert.equal(Deno.readTextFileSync(join(path, "model.safetensors")), digit === "a" ? "old" : "new");
    };
    await check("org/m", "b");
    await check("org/m@v1.0", "a");
    await check("org/m@refs/pr/1", "a");
    await check("org/m", "a", "v1.0");
    await check("org/m@main", "b", "v1.0");
    hub.seen.splice(0);
    // A commit that was seen before needs nobody.
    await check(`org/m@${commit("a")}`, "a");
    assert.deepEqual(hub.seen, []);
    repo.refs.main = commit("a");
    await check("org/m", "a");
    await assert.rejects(
      resolveModel("org/m@v2", options),
      /Cannot fetch org\/m: it has no revision "v2"\. Expected a branch, a tag or a commit of .*\/org\/m\/tree\/main/,
    );
  });
});

Deno.test("offline, and where the hub cannot be reached, the cache is all there is", () =>
  withHub(
    one({ ...CONFIG, "model.safetensors": weights("w"), "x.gguf": weights("g") }),
    async ({ hub, said, ...options }) => {
      const { settings } = options, offline = { ...options, settings: { ...settings, offline: true } };
      await assert.rejects(
        resolveModel("org/m", offline),
        /Cannot use org\/m: revision main of this model is not in the cache .*, and HF_HUB_OFFLINE is set\. Fetch it once/,
      );
      const fetched = await resolveModel("org/m", options);
      hub.seen.splice(0);
      assert.deepEqual(await resolveModel("org/m", offline), fetched);
      await assert.rejects(
        resolveModel("org/m/x.gguf", offline),
        /Cannot use org\/m: x\.gguf is not in the cache .*HF_HUB_OFFLINE is set/,
      );
      // As Python leaves it: without a listing, with what it has.
      await Deno.remove(join(settings.cache, "models--org--m/listings"), { recursive: true });
      assert.deepEqual(await resolveModel("org/m", offline), fetched);
      assert.deepEqual(hub.seen, []);
      await hub.close();
      assert.deepEqual(await resolveModel("org/m", options), fetched);
      assert.match(said.join("\n"), /cannot be reached.*using org\/m as it is in the cache, commit a{40}/);
      await assert.rejects(
        resolveModel("org/other", options),
        /Cannot fetch org\/other: 127\.0\.0\.1:\d+ cannot be reached.*\(There is no file or folder org\/other here either\.\)/,
      );
      hub.close = () => Promise.resolve();
    },
  ));

Deno.test("what is missing, private or gated is said so, with what to do", () =>
  withHub(one(CONFIG), async ({ hub, ...options }) => {
    const page = `${hub.endpoint}/org/no`.replaceAll(".", "\\.");
    const answers: [status: number, code: string, expected: string][] = [
      [404, "RepoNotFound", `there is no such model on 127.*Look at ${page}`],
      [
        401,
        "",
        `it does not exist, or it is private or gated\\. Look at ${page}; if it exists, set HF_TOKEN`,
      ],
      [401, "GatedRepo", `access to it must be granted\\. Ask for it at ${page}, and set HF_TOKEN`],
      [403, "GatedRepo", `access to it must be granted\\. Ask for it at ${page}, and set HF_TOKEN`],
    ];
    for (const [status, code, expected] of answers) {
      hub.interfere = () => failure(status, code, "No");
      await assert.rejects(
        resolveModel("org/no", options),
        new RegExp(`^Error: Cannot fetch org/no: ${expected}`),
      );
    }
    const withToken = { ...options, settings: { ...options.settings, token: "hf_x" } };
    await assert.rejects(resolveModel("org/no", withToken), /and use a token that may read it/);
    hub.interfere = () => new Response("<html>");
    await assert.rejects(resolveModel("org/no", options), /answers with something other than JSON/);
    hub.interfere = () => Response.json({ sha: "../../x" });
    await assert.rejects(resolveModel("org/no", options), /gives "\.\.\/\.\.\/x" for the commit/);
  }));

Deno.test("paths that lead out of the cache, and entries without size or hash, are refused", () =>
  withHub(one({}), async ({ hub, ...options }) => {
    const index = text('{"weight_map": {"w": "../w.safetensors"}}');
    const list = (rows: unknown) => {
      Deno.removeSync(join(options.settings.cache, "models--org--m"), { recursive: true });
      hub.interfere = ({ path }) => path.includes("/tree/") ? Response.json(rows) : undefined;
    };
    Deno.mkdirSync(join(options.settings.cache, "models--org--m"), { recursive: true });
    const file = { type: "file", path: "config.json", size: 2, oid: commit("1") };
    for (
      const change of [{ size: -1 }, { size: "2" }, { size: 1e300 }, { oid: "../../x" }, { oid: undefined }, {
        path: 7,
      }]
    ) {
      list([{ ...file, ...change }]);
      await assert.rejects(
        resolveModel("org/m", options),
        /Cannot use org\/m: 127.* lists .* without a size and a hash/,
      );
    }
    for (
      const path of [
        "../x.gguf",
        "/x.gguf",
        "a//x.gguf",
        "a/./x.gguf",
        "x\0.gguf",
        "C:\\x.gguf",
        "x?.gguf",
        "a /x.gguf",
      ]
    ) {
      list([{ ...file, path }]);
      await assert.rejects(
        resolveModel("org/m", options),
        /Cannot use org\/m: it has a file named .*, which cannot be a path/,
      );
    }
    hub.interfere = undefined;
    await withHub(
      one({ ...CONFIG, "model.safetensors.index.json": index }),
      async (other) => {
        await assert.rejects(
          resolveModel("org/m", other),
          /names "\.\.\/w\.safetensors", which is not a safetensors file/,
        );
      },
    );
  }));

Deno.test("of a model come its shards, an adapter, or one GGUF file; pickles are refused by name", async () => {
  const shard = (name: string) => [name, weights(name)] as const;
  const map = {
    weight_map: { a: "model-1.safetensors", b: "model-2.safetensors", c: "model-1.safetensors" },
  };
  const sharded = {
    ...CONFIG,
    "model.safetensors.index.json": text(JSON.stringify(map)),
    ...Object.fromEntries(["model-1.safetensors", "model-2.safetensors", "other.safetensors"].map(shard)),
  };
  await withHub(one(sharded), async (options) => {
    const { path } = await resolveModel("org/m", options);
    assert.deepEqual(names(path), [
      "config.json",
      "model-1.safetensors",
      "model-2.safetensors",
      "model.safetensors.index.json",
      "tokenizer.json",
    ]);
  });
  const adapter = {
    "adapter_config.json": text("{}"),
    "adapter_model.safetensors": weights("a"),
    "optimizer.pt": weights("o"),
    "config.json": text("{}"),
  };
  await withHub(one(adapter), async (options) => {
    const { path } = await resolveModel("org/m", options);
    assert.deepEqual(names(path), ["adapter_config.json", "adapter_model.safetensors"]);
  });
  const ggufs = {
    "README.md": text(""),
    "m-q4.gguf": weights("4"),
    "big/m-q8-00001-of-00002.gguf": weights("8a"),
    "big/m-q8-00002-of-00002.gguf": weights("8b"),
  };
  await withHub(one(ggufs), async ({ hub, ...options }) => {
    await assert.rejects(
      resolveModel("org/m", options),
      /it has 2 GGUF files\. Name one, as in org\/m\/m-q4\.gguf:\n {2}m-q4\.gguf \(0\.0 MB\)\n {2}big\/m-q8-00001/,
    );
    for (
      const name of ["org/m/m-q4.gguf", "org/m:m-q4.gguf", "org/m@main:m-q4.gguf", "org/m/m-q4.gguf@main"]
    ) {
      const { path, name: exact } = await resolveModel(name, options);
      assert.equal(Deno.readTextFileSync(path), "4");
      assert.equal(exact, `org/m@${commit("a")}:m-q4.gguf`);
      assert.deepEqual(await resolveModel(exact, options), { path, name: exact });
    }
    const { path } = await resolveModel("org/m/big/m-q8-00002-of-00002.gguf", options);
    assert.equal(Deno.readTextFileSync(path), "8a");
    assert.equal(Deno.readTextFileSync(path.replace("00001-of", "00002-of")), "8b");
    await assert.rejects(
      resolveModel("org/m:none.gguf", options),
      /it has no file "none\.gguf"\. Its GGUF files are\n {2}m-q4/,
    );
    await assert.rejects(
      resolveModel("org/m:README.md", options),
      /only a GGUF file can be named, and "README\.md" is none/,
    );
    assert.equal(hub.bodies().filter(({ port }) => port === "store").length, 3);
  });
  await withHub(one({ ...CONFIG, "pytorch_model.bin": weights("x") }), async (options) => {
    await assert.rejects(
      resolveModel("org/m", options),
      /only as pytorch_model\.bin\. .*\(pickle\).*org\/m@refs\/pr\/1.*save_pretrained/,
    );
  });
  await withHub(one(CONFIG), async (options) => {
    await assert.rejects(
      resolveModel("org/m", options),
      /it has neither model\.safetensors.*\n {2}config\.json/,
    );
  });
});

Deno.test("a dataset's files come by split, and how far it is is told", () => {
  const files = {
    "README.md": text(
      "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n---\n# D",
    ),
    "data/train-00000-of-00002.parquet": weights("t".repeat(1000)),
    "data/train-00001-of-00002.parquet": weights("u".repeat(500)),
    "data/test-00000-of-00001.parquet": weights("v".repeat(100)),
    "extra.jsonl": text("{}"),
  };
  return withHub({ "datasets/org/d": repoOf(files) }, async ({ hub, ...options }) => {
    const told: FetchProgress[] = [];
    const { splits, name, path } = await resolveDataset("org/d", {
      ...options,
      only: ["train"],
      progress: (progress) => void told.push(progress),
    });
    assert.equal(name, `org/d@${commit("a")}`);
    assert.equal(path, undefined);
    assert.deepEqual(Object.keys(splits!), ["train"]);
    assert.deepEqual(splits!.train.map((one) => Deno.readTextFileSync(one)[0]), ["t", "u"]);
    const last = told[told.length - 1];
    assert.deepEqual([last.name, last.received, last.total], ["org/d", 1500, 1500]);
    assert.ok(last.rate > 0);
    assert.equal(told.filter(({ received, total }) => received === total && total === 1500).length, 1);
    assert.equal(hub.bodies().filter(({ port }) => port === "store").length, 2);
    const all = await resolveDataset("org/d", options);
    assert.deepEqual(Object.keys(all.splits!), ["train", "test"]);
    assert.equal(hub.bodies().length, 2);
    const [file] = (await resolveDataset("org/d:extra.jsonl", options)).splits!.train;
    assert.equal(Deno.readTextFileSync(file), "{}");
    await assert.rejects(
      resolveDataset("org/d", { ...options, only: ["dev"] }),
      /it has no split dev\. It has train, test/,
    );
  });
});

pythonTest("what keel fetched is found by huggingface_hub, and the other way round", () => {
  const files = { ...CONFIG, "sub/x.json": text("[]"), "model.safetensors": weights("w".repeat(5000)) };
  return withHub(one(files), async ({ hub, ...options }) => {
    const { settings } = options;
    const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: settings.cache, HF_HUB_DISABLE_XET: "1" };
    const { path } = await resolveModel("org/m", options);
    const found = await python([
      "-c",
      "from huggingface_hub import snapshot_download, hf_hub_download, scan_cache_dir\n" +
      "print(snapshot_download('org/m', local_files_only=True))\n" +
      "print(hf_hub_download('org/m', 'model.safetensors', local_files_only=True))\n" +
      "info = scan_cache_dir()\nassert not info.warnings, info.warnings\nprint([r.repo_id for r in info.repos])",
    ], { env });
    assert.deepEqual(found.trim().split("\n"), [path, join(path, "model.safetensors"), "['org/m']"]);
    await Deno.remove(settings.cache, { recursive: true });
    await python(["-c", "from huggingface_hub import snapshot_download\nsnapshot_download('org/m')"], {
      env,
    });
    hub.bodies();
    const offline = { ...options, settings: { ...settings, offline: true } };
    for (const how of [offline, options]) {
      assert.equal((await resolveModel("org/m", how)).path, path);
      assert.equal(Deno.readTextFileSync(join(path, "model.safetensors")), "w".repeat(5000));
    }
    assert.deepEqual(hub.bodies(), []);
  });
});
