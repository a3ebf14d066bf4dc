/**
 * Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in WGSL: random numbers that depend on
 * nothing but a key and a counter, so a sample does not depend on the batch it is drawn in.
 *
 * @module
 */

/** WGSL functions `philox(counter: vec4u, key: vec2u) -> vec4u` and `unitFloat(word: u32) -> f32` in (0, 1). */
export const PHILOX = `fn mulHigh(a: u32, b: u32) -> u32 {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let middle = ah * bl + ((al * bl) >> 16u);
  return ah * bh + (middle >> 16u) + (((middle & 0xffffu) + al * bh) >> 16u);
}
fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let high0 = mulHigh(0xD2511F53u, c.x);
    let low0 = 0xD2511F53u * c.x;
    let high1 = mulHigh(0xCD9E8D57u, c.z);
    let low1 = 0xCD9E8D57u * c.z;
    c = vec4u(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
    k += vec2u(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}
fn unitFloat(word: u32) -> f32 { return (f32(word >> 9u) + 0.5) * 1.1920928955078125e-7; }`;
