/** Downloads from a hub that behaves, and from one that does not. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { resolveModel } from "../../src/hub/resolve.ts";
import type { HubSettings } from "../../src/hub/settings.ts";
import { withDirectory } from "../assets.ts";
import { broken, commit, failure, type HubFiles, repoOf, startHub, type TestHub, text } from "./server.ts";

/** Bytes that differ from place to place. */
function noise(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  let x = seed;
  return Uint8Array.from({ length }, () => (x = Math.imul(x, 1103515245) + 12345) >>> 16);
}

const WEIGHTS = noise(300_000);
const FILES: HubFiles = {
  "README.md": text("# Tiny"),
  "config.json": text('{"model_type": "llama"}'),
  "tokenizer.json": text("{}"),
  "pytorch_model.bin": { content: noise(10), large: true },
  "model.safetensors": { content: WEIGHTS, large: true },
};
const STORE = "store";

interface Case {
  hub: TestHub;
  settings: HubSettings;
  said: string[];
  fetch(name?: string): Promise<string>;
}

/** A case with a hub, an empty cache and a token. */
function withHub(use: (one: Case) => Promise<void>, files = FILES): Promise<void> {
  return withDirectory(async (cache) => {
    const hub = startHub({ "models/org/tiny": repoOf(files) });
    const settings = {
      endpoint: hub.endpoint,
      cache,
      token: "hf_secret",
      offline: false,
      waits: [1, 1, 1],
      patience: 5000,
    };
    const said: string[] = [];
    const say = (line: string) => void said.push(line);
    try {
      const fetch = async (name = "org/tiny") => (await resolveModel(name, { settings, say })).path;
      await use({ hub, settings, said, fetch });
    } finally {
      await hub.close();
    }
  });
}

const contentOf = (path: string) => Deno.readFileSync(path);
const blobs = (cache: string) =>
  Array.from(Deno.readDirSync(join(cache, "models--org--tiny/blobs")), (e) => e.name);

Deno.test("a model comes into the cache once, without what it does not need, and the token goes to the hub alone", () =>
  withHub(async ({ hub, settings, fetch, said }) => {
    const directory = await fetch();
    assert.equal(directory, join(settings.cache, "models--org--tiny/snapshots", commit("a")));
    assert.deepEqual(Array.from(Deno.readDirSync(directory), ({ name }) => name).sort(), [
      "config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) {
      assert.deepEqual(contentOf(join(directory, name)), FILES[name].content);
      assert.match(Deno.readLinkSync(join(directory, name)), /^\.\.\/\.\.\/blobs\/[0-9a-f]+$/);
    }
    assert.equal(Deno.readTextFileSync(join(settings.cache, "models--org--tiny/refs/main")), commit("a"));
    assert.ok(hub.seen.some(({ port }) => port === STORE));
    for (const { port, token } of hub.seen) assert.equal(token, port === "hub" ? "Bearer hf_secret" : null);
    assert.equal(hub.bodies().length, 4);
    assert.equal(await fetch(), directory);
    assert.deepEqual(hub.bodies(), []);
    assert.deepEqual(said, []);
  }));

Deno.test("a connection that breaks is gone on with where it stopped", () =>
  withHub(async ({ hub, fetch }) => {
    let times = 0;
    hub.interfere = ({ port }, usual) => port === STORE && ++times <= 3 ? broken(usual(), 50_000) : undefined;
    const directory = await fetch();
    assert.deepEqual(contentOf(join(directory, "model.safetensors")), WEIGHTS);
    const ranges = hub.bodies().filter(({ port }) => port === STORE).map(({ range }) => range);
    assert.equal(ranges.length, 4);
    const starts = ranges.map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? "bytes=0-")![1]));
    assert.equal(ranges[0], null);
    for (let i = 1; i < 4; i++) {
      assert.ok(starts[i] > starts[i - 1] && starts[i] <= i * 50_000, starts.join());
    }
  }));

Deno.test("what a process left behind is gone on with by the next; too much of it is thrown away", () =>
  withHub(async ({ hub, settings, fetch }) => {
    hub.interfere = ({ port }, usual) => port === STORE ? broken(usual(), 100) : undefined;
    settings.waits = [];
    await assert.rejects(
      fetch(),
      /Cannot fetch org\/tiny: 127\.0\.0\.1:\d+ cannot be reached or drops .*what has come stays/,
    );
    const [partial] = blobs(settings.cache).filter((name) => name.endsWith(".incomplete"));
    const path = join(settings.cache, "models--org--tiny/blobs", partial);
    const size = Deno.statSync(path).size;
    assert.ok(size > 0 && size <= 100);
    hub.interfere = undefined;
    hub.bodies();
    const directory = await fetch();
    assert.equal(hub.bodies().find(({ port }) => port === STORE)!.range, `bytes=${size}-`);
    assert.deepEqual(contentOf(join(directory, "model.safetensors")), WEIGHTS);
    Deno.renameSync(path.replace(".incomplete", ""), path);
    Deno.writeFileSync(path, noise(5), { append: true });
    await Deno.remove(join(directory, "model.safetensors"));
    await fetch();
    assert.deepEqual(contentOf(join(directory, "model.safetensors")), WEIGHTS);
    assert.equal(hub.bodies().find(({ port }) => port === STORE)!.range, null);
  }));

Deno.test("a server without ranges sends all of it again, and one with other ranges is asked for all", () =>
  withHub(async ({ hub, fetch }) => {
    let times = 0;
    hub.interfere = ({ port, range }, usual) => {
      if (port !== STORE) return;
      times++;
      if (times === 1) return broken(usual(), 50_000);
      if (times === 2) {
        return broken(new Response(WEIGHTS.slice()), 90_000);
      }
      if (times === 3) return new Response("x", { status: 206, headers: { "Content-Range": "bytes 7-7/8" } });
      if (times === 4) return new Response(null, { status: range === null ? 500 : 416 });
    };
    const directory = await fetch();
    assert.deepEqual(contentOf(join(directory, "model.safetensors")), WEIGHTS);
    assert.equal(times, 5);
  }));

Deno.test("content with another hash is fetched once more, and then refused and not kept", () =>
  withHub(async ({ hub, settings, fetch, said }) => {
    let wrong = 1;
    const other = WEIGHTS.slice();
    other[123_456] ^= 1;
    hub.interfere = ({ port }) => port === STORE && wrong-- > 0 ? new Response(other.slice()) : undefined;
    const directory = await fetch();
    assert.deepEqual(contentOf(join(directory, "model.safetensors")), WEIGHTS);
    assert.deepEqual(said, ["model.safetensors came damaged; fetching it again"]);
    for (
      const [bad, name] of [[other, "longer"], [noise(300_001), "longer"], [
        noise(2_000_000),
        "much longer",
      ]] as const
    ) {
      await Deno.remove(join(settings.cache, "models--org--tiny"), { recursive: true });
      wrong = 2;
      hub.interfere = ({ port }) => port === STORE && wrong-- > 0 ? new Response(bad.slice()) : undefined;
      await assert.rejects(
        fetch(),
        /Cannot fetch model\.safetensors: .* sent something else twice \(sha256 [0-9a-f]{64}, expected [0-9a-f]{64}\)\. It was not kept/,
        name,
      );
      assert.deepEqual(blobs(settings.cache).filter((one) => one.length > 40), []);
    }
    // A small file has git's hash.
    await Deno.remove(join(settings.cache, "models--org--tiny"), { recursive: true });
    hub.interfere = ({ path }) =>
      path.endsWith("/config.json") ? new Response('{"model_type": "LLAMA"}') : undefined;
    await assert.rejects(
      fetch(),
      /Cannot fetch config\.json: .*git-sha1 [0-9a-f]{40}, expected [0-9a-f]{40}/,
    );
  }));

Deno.test("a busy or failing hub is asked again, as late as it wants; a silent one is left", () =>
  withHub(async ({ hub, settings, fetch, said }) => {
    let times = 0, asked = 0;
    hub.interfere = ({ path }) => {
      if (!path.includes("/tree/")) return;
      times++;
      if (times === 1) return failure(503, "", "Overloaded");
      if (times === 2) {
        asked = performance.now();
        return failure(429, "", "Too many requests", { "Retry-After": "1" });
      }
    };
    await fetch();
    assert.ok(performance.now() - asked >= 990);
    assert.deepEqual(said.map((line) => line.replace(/:\d+/, "")), [
      "127.0.0.1 answers with status 429 (Too many requests); trying again in 1 s",
    ]);
    await Deno.remove(settings.cache, { recursive: true });
    hub.interfere = () => failure(429, "", "Too many requests", { "Retry-After": "4000" });
    await assert.rejects(fetch(), /Cannot fetch org\/tiny: .* answers with status 429.*Try again later/);
    settings.patience = 50;
    settings.waits = [1];
    const silent: (() => void)[] = [];
    hub.interfere = ({ path }, usual) =>
      path.includes("/resolve/")
        ? new Response(
          new ReadableStream({
            start: (controller) => void silent.push(() => controller.close()),
          }),
          { headers: usual().headers },
        )
        : undefined;
    await assert.rejects(fetch(), /drops the connection \(nothing for 0\.05 s\)/);
    silent.forEach((close) => {
      try {
        close();
      } catch {
        // The other side has gone.
      }
    });
  }));

Deno.test("two at the same time fetch it once", () =>
  withHub(async ({ hub, fetch, said }) => {
    hub.interfere = ({ port }, usual) => {
      if (port !== STORE) return;
      const { body, headers } = usual();
      const slow = new TransformStream<Uint8Array, Uint8Array>({
        async transform(chunk, controller) {
          await new Promise((resolve) => setTimeout(resolve, 300));
          controller.enqueue(chunk);
        },
      });
      return new Response(body!.pipeThrough(slow), { headers });
    };
    const [one, other] = await Promise.all([fetch(), fetch()]);
    assert.equal(one, other);
    assert.deepEqual(contentOf(join(one, "model.safetensors")), WEIGHTS);
    assert.equal(hub.bodies().filter(({ port }) => port === STORE).length, 1);
    assert.ok(said.some((line) => line.startsWith("Waiting for another process that fetches")));
  }));

Deno.test("redirects to what is not secure, and without end, are refused", () =>
  withHub(async ({ hub, fetch }) => {
    hub.interfere = ({ path }) => Response.redirect(new URL(path, hub.endpoint), 302);
    await assert.rejects(fetch(), /redirects more than 10 times/);
    hub.interfere = () => new Response(null, { status: 302, headers: { Location: "file:///etc/passwd" } });
    await assert.rejects(fetch(), /redirects to file:/);
  }));
