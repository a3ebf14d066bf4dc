/** Locks the directory in the first argument; keeps it until killed, or with a second argument lets go at once. */
import { lockRun } from "../../src/run/lock.ts";

const lock = lockRun(Deno.args[0]);
console.log("locked");
if (Deno.args[1] === undefined) setInterval(() => {}, 1000);
else lock.release();
