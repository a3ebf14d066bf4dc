/**
 * Small plots made of characters.
 *
 * @module
 */

const BARS = "▁▂▃▄▅▆▇█";

/** Means of `values` in `count` runs of about equal length; the values themselves where there are no more than that. */
function resample(values: number[], count: number): number[] {
  if (values.length <= count) return values;
  return Array.from({ length: count }, (_, i) => {
    const part = values.slice(
      Math.floor(i * values.length / count),
      Math.floor((i + 1) * values.length / count),
    );
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
}

/** A range that holds all finite values and is not empty. */
function rangeOf(values: number[]): { low: number; high: number } {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return { low: 0, high: 1 };
  const low = Math.min(...finite), high = Math.max(...finite);
  return low === high ? { low: low - 0.5, high: high + 0.5 } : { low, high };
}

/** A line of bars, one character per value or per run of values; `?` where a value is not finite. */
export function sparkline(values: number[], width = 40): string {
  const points = resample(values, width);
  const { low, high } = rangeOf(points);
  return points.map((value) => {
    if (!Number.isFinite(value)) return "?";
    return BARS[Math.min(BARS.length - 1, Math.floor((value - low) / (high - low) * BARS.length))];
  }).join("");
}

/** A number in at most four digits, e.g. `0.123`, `12.3`, `1.2e-5`. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

/** Bits of a braille character, by row and column of its dots. */
const DOTS = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/** What {@linkcode braillePlot} draws. */
export interface BraillePlot {
  /** Points [x, y]; those that are not finite are left out. */
  points: [number, number][];
  /** Characters of the drawing area; each has 2 × 4 dots. */
  width?: number;
  height?: number;
}

/** A line through points, with its range of y at the left and of x below. */
export function braillePlot({ points, width = 50, height = 8 }: BraillePlot): string[] {
  const finite = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  const xs = rangeOf(finite.map(([x]) => x)), ys = rangeOf(finite.map(([, y]) => y));
  const columns = width * 2, rows = height * 4;
  const cells = Array.from({ length: height }, () => new Array<number>(width).fill(0));
  const set = (column: number, row: number) => {
    cells[row >> 2][column >> 1] |= DOTS[row & 3][column & 1];
  };
  const placed = finite.map(([x, y]) => [
    Math.round((x - xs.low) / (xs.high - xs.low) * (columns - 1)),
    Math.round((ys.high - y) / (ys.high - ys.low) * (rows - 1)),
  ]);
  placed.forEach(([column, row], i) => {
    const [lastColumn, lastRow] = placed[Math.max(0, i - 1)];
    const steps = Math.max(1, Math.abs(column - lastColumn), Math.abs(row - lastRow));
    for (let step = 0; step <= steps; step++) {
      set(
        Math.round(lastColumn + (column - lastColumn) * step / steps),
        Math.round(lastRow + (row - lastRow) * step / steps),
      );
    }
  });
  const top = shortNumber(ys.high), bottom = shortNumber(ys.low);
  const margin = Math.max(top.length, bottom.length);
  const lines = cells.map((line, i) => {
    const label = i === 0 ? top : i === height - 1 ? bottom : "";
    return `${label.padStart(margin)} │${line.map((bits) => String.fromCharCode(0x2800 + bits)).join("")}`;
  });
  const right = shortNumber(xs.high);
  const left = shortNumber(xs.low).padEnd(width - right.length);
  return [
    ...lines,
    `${" ".repeat(margin)} └${"─".repeat(width)}`,
    `${" ".repeat(margin + 2)}${left}${right}`,
  ];
}
