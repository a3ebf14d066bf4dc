/**
 * Waiting for work of which some may fail.
 *
 * @module
 */

/** All results, or the first failure once all others have ended, too: what they have paid for is not lost. */
export async function allEnded<T extends readonly unknown[]>(
  work: { [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const results: unknown[] = [];
  for (const result of await Promise.allSettled(work)) {
    if (result.status === "rejected") throw result.reason;
    results.push(result.value);
  }
  return results as unknown as T;
}
