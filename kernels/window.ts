/**
 * Sliding windows: what a query sees of its document, narrowed to the last `window` tokens.
 *
 *   starts'[i] = max(starts[i], i − window + 1)    ends'[j] = min(ends[j], j + window)
 *
 * All are u32 [tokens]; `starts'` and `ends'` are overwritten and, like `starts` and `ends`, never decrease.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/** The narrowed views. */
export function narrow<B>(
  _profile: Profile,
  buffers: { starts: B; ends: B; narrowStarts: B; narrowEnds: B },
  { tokens, window }: { tokens: number; window: number },
): Launch<B> {
  const kernel = cachedKernel("window", () => ({
    storage: { starts: "u32", ends: "u32", narrowStarts: "u32", narrowEnds: "u32" },
    writes: ["narrowStarts", "narrowEnds"],
    uniforms: { tokens: "u32", window: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.tokens) { return; }
  narrowStarts[i] = max(starts[i], i + 1u - min(i + 1u, u.window));
  narrowEnds[i] = min(ends[i], i + u.window);`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { tokens, window },
    grid: linearGrid(Math.ceil(tokens / WORKGROUP)),
  };
}
