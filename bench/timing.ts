/** Interleaved timing and the rows that every benchmark prints. */

/** One line of a benchmark: ours beside a peer. `ratio` is above 1 when keel is better. */
export interface Row {
  name: string;
  unit: string;
  keel: number;
  peer: string;
  peer_value: number;
  ratio: number;
}

/** Something to time: `sample` runs it and gives milliseconds per operation. */
export interface Variant {
  name: string;
  sample(): Promise<number>;
}

export function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/**
 * Median milliseconds of each variant. Every round times every variant once, in rotating order: the machine's mood then
 * weighs equally on all, and only ratios within one call mean anything.
 */
export async function interleave(variants: Variant[], rounds: number): Promise<Map<string, number>> {
  const samples = new Map<string, number[]>(variants.map(({ name }) => [name, []]));
  for (const variant of variants) await variant.sample();
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < variants.length; i++) {
      const variant = variants[(i + round) % variants.length];
      samples.get(variant.name)!.push(await variant.sample());
    }
  }
  return new Map([...samples].map(([name, values]) => [name, median(values)]));
}

/** Prints the rows as they come and keeps them for `--json`. */
export function report(): { rows: Row[]; add(row: Row): void; save(path: string | undefined): void } {
  const rows: Row[] = [];
  return {
    rows,
    add(row) {
      rows.push(row);
      const number = (x: number) => x.toPrecision(4).padStart(8);
      console.log(
        `${row.name.padEnd(34)} ${number(row.keel)} ${row.unit.padEnd(22)} ${row.peer.padEnd(20)} ${
          number(row.peer_value)
        }   x ${row.ratio.toFixed(2)}`,
      );
    },
    save(path) {
      if (path) Deno.writeTextFileSync(path, JSON.stringify(rows, null, 2) + "\n");
    },
  };
}

/** `[filter] [--json file] [--rounds n]` of a benchmark's command line. */
export function benchArguments(args: string[]): { filter: RegExp; json?: string; rounds: number } {
  const rest = [...args];
  const take = (flag: string) => {
    const at = rest.indexOf(flag);
    return at < 0 ? undefined : rest.splice(at, 2)[1];
  };
  const json = take("--json"), rounds = Number(take("--rounds") ?? 9);
  return { filter: new RegExp(rest[0] ?? "."), json, rounds };
}

/** Throws when `got` is not `want` within a relative error of 1e-5, so that no wrong kernel is timed. */
export function mustEqual(name: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  let error = 0, norm = 0;
  for (let i = 0; i < want.length; i++) {
    error += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  const relative = Math.sqrt(error / norm);
  if (!(relative < 1e-5)) throw new Error(`${name} is wrong: its relative error is ${relative}.`);
}
