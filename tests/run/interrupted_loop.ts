/** Steps until it is asked to stop, then says how many it made, as a trainer does. */
import { INTERRUPTED, watchInterrupt } from "../../src/run/interrupt.ts";

const interrupt = watchInterrupt((message) => console.log(message));
console.log("ready");
while (!interrupt.requested()) await new Promise((done) => setTimeout(done, 5));
if (Deno.args[0] === "hang") await new Promise((done) => setTimeout(done, 60_000));
interrupt.close();
console.log("checkpointed");
Deno.exit(INTERRUPTED);
