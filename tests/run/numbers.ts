/** `count` numbers that a step determines. */
export function numbers(step: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(step * 1000 + i));
}
