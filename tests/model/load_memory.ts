/** Prints how many bytes the resident memory of a process peaks above what an open device has, when it loads a model as stored. */
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";

const peak = () => Number(/VmHWM:\s+(\d+)/.exec(Deno.readTextFileSync("/proc/self/status"))![1]) * 1024;
const gpu = await openGpu();
const before = peak();
loadModel(gpu, Deno.args[0], { dtype: "as-stored" });
await gpu.readback.wait();
console.log(peak() - before);
gpu.close();
