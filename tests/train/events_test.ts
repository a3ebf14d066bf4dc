/** Between two steps a trainer lets signals through. */
import assert from "node:assert/strict";
import { breathe } from "../../src/train/events.ts";

/** Works for some milliseconds, as a step does, without returning to the event loop. */
function step(milliseconds: number): void {
  const begin = performance.now();
  while (performance.now() - begin < milliseconds);
}

Deno.test({
  name: "a signal that came during a step is handled before the next, or soon after",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    let handled = 0;
    const listener = () => void handled++;
    Deno.addSignalListener("SIGUSR1", listener);
    try {
      for (let steps = 1; steps <= 3; steps++) {
        Deno.kill(Deno.pid, "SIGUSR1");
        // On a busy machine the thread that waits for signals may come too late for one rest.
        for (let rests = 0; handled < steps && rests < 5; rests++) {
          step(110);
          await breathe();
        }
        assert.equal(handled, steps);
      }
      // Short steps share a rest.
      Deno.kill(Deno.pid, "SIGUSR1");
      let more = 0;
      for (; handled === 3 && more < 40; more++) {
        step(5);
        await breathe();
      }
      assert.equal(handled, 4, `not noticed in ${more} short steps`);
    } finally {
      Deno.removeSignalListener("SIGUSR1", listener);
    }
  },
});
