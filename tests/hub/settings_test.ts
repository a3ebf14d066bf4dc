/** Where the Hub and the cache are, by the environment, as `huggingface_hub` reads it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { hostOf, hubSettings } from "../../src/hub/settings.ts";
import { withDirectory } from "../assets.ts";

const by = (env: Record<string, string>) => hubSettings((name) => env[name]);

Deno.test("the cache is where the first of four variables says, under the home folder without one", () => {
  const all = { HOME: "/h", XDG_CACHE_HOME: "/x", HF_HOME: "/f", HF_HUB_CACHE: "~/c" };
  const cacheOf = (...names: (keyof typeof all)[]) =>
    by(Object.fromEntries(names.map((name) => [name, all[name]]))).cache;
  assert.equal(cacheOf("HOME"), "/h/.cache/huggingface/hub");
  assert.equal(cacheOf("HOME", "XDG_CACHE_HOME"), "/x/huggingface/hub");
  assert.equal(cacheOf("HOME", "XDG_CACHE_HOME", "HF_HOME"), "/f/hub");
  assert.equal(cacheOf("HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"), "/h/c");
  assert.equal(by({ USERPROFILE: "/u" }).cache, "/u/.cache/huggingface/hub");
});

Deno.test("the token is the variable's, else the file's; one that cannot be one is refused without showing it", () =>
  withDirectory((home) => {
    assert.equal(by({ HF_HOME: home }).token, undefined);
    Deno.writeTextFileSync(join(home, "token"), "hf_file\n");
    assert.equal(by({ HF_HOME: home }).token, "hf_file");
    assert.equal(by({ HF_HOME: home, HF_TOKEN: " hf_own " }).token, "hf_own");
    assert.throws(() => by({ HF_HOME: home, HF_TOKEN: "hf_a\nX-Other: b" }), (error: Error) => {
      assert.match(
        error.message,
        /The Hub's token has blanks or characters that no token has\. Look at HF_TOKEN/,
      );
      assert.doesNotMatch(error.message, /X-Other/);
      return true;
    });
  }));

Deno.test("the endpoint is an address; offline is a yes in one of its spellings", () => {
  assert.equal(by({}).endpoint, "https://huggingface.co");
  const mirror = by({ HF_ENDPOINT: "http://mirror.example:8080/hf/" });
  assert.equal(mirror.endpoint, "http://mirror.example:8080/hf");
  assert.equal(hostOf(mirror), "mirror.example:8080");
  for (const bad of ["huggingface.co", "ftp://x", "https://user:pw@x", "http://x?y"]) {
    assert.throws(() => by({ HF_ENDPOINT: bad }), /HF_ENDPOINT is ".*"\. Expected the address of the Hub/);
  }
  for (const yes of ["1", "true", "YES", "on"]) assert.equal(by({ HF_HUB_OFFLINE: yes }).offline, true);
  for (const no of ["", "0", "false"]) assert.equal(by({ HF_HUB_OFFLINE: no }).offline, false);
});
