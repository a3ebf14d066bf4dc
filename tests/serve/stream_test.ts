/** The stream of a run, as a client with a bad connection sees it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openStore } from "../../src/run/store.ts";
import { plainJson } from "../../serve/json.ts";
import { withDirectory } from "../assets.ts";
import { follow } from "./event_source.ts";
import { bits, client, startServer, TRAIN, until } from "./server.ts";

Deno.test("a client that loses its connection ten times gets every entry exactly once, and the run does not notice", async () => {
  await withDirectory(async (directory) => {
    const server = await startServer(directory);
    try {
      const api = client(server.url);
      await api.expect(201, "POST", "/runs", { id: "mine", ...TRAIN });
      const ids: number[] = [], kinds = new Set<string>();
      let drops = 0;
      while (drops < 10) {
        const after = ids.at(-1);
        const before = ids.length;
        // Connections break after one, two or three entries: together fewer than there are.
        for await (const entry of follow(server.url, "mine", after)) {
          ids.push(entry.id);
          kinds.add(entry.event);
          if (ids.length - before > drops % 3) break;
        }
        drops++;
      }
      const store = openStore(join(directory, "mine", "run.db"));
      await api.until("mine", "finished");
      const all = store.stream(0, 100_000);
      const last = all.at(-1)!.seq;
      assert.ok(ids.at(-1)! < last, "the run had told all before the last connection was made");
      for await (const entry of follow(server.url, "mine", ids.at(-1))) {
        ids.push(entry.id);
        kinds.add(entry.event);
        const { data } = all.find((row) => row.seq === entry.id)!;
        assert.deepEqual(entry.data.data, JSON.parse(plainJson(data)));
        if (entry.id === last) break;
      }
      store.close();
      assert.deepEqual(ids, all.map(({ seq }) => seq));
      assert.deepEqual(
        [...kinds].filter((kind) => ["metrics", "samples", "started"].includes(kind)).length,
        3,
      );

      // The same from ?after, and from nothing for a number that was never told.
      for await (const { id } of follow(server.url, "mine", undefined, `?after=${last - 1}`)) {
        assert.equal(id, last);
        break;
      }
      for await (const { id } of follow(server.url, "mine", last + 1000)) {
        assert.equal(id, 1);
        break;
      }
      await until(
        "the server lets go of broken connections",
        async () => (await api.expect(200, "GET", "/system")).streams === 0,
      );

      // A second run with the same seed, which nobody followed.
      await api.expect(201, "POST", "/runs", { id: "alone", ...TRAIN });
      await api.until("alone", "finished");
      const stages = ["sft", "reward", "ppo"];
      assert.deepEqual(bits(join(directory, "mine"), stages), bits(join(directory, "alone"), stages));
    } finally {
      await server.stop();
    }
  });
});
