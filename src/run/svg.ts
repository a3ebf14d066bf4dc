/**
 * Line plots as inline SVG, coloured by the style sheet of the page that holds them.
 *
 * @module
 */
import { escapeHtml } from "./html.ts";

/** One line. */
export interface Series {
  /** Its name in the legend. */
  name: string;
  /** Points [x, y] in the order they are joined; one that is not finite interrupts the line. */
  points: [x: number, y: number][];
  /** Draws a dashed line. */
  dashed?: boolean;
}

/** An area between two curves, in the colour of the series of the same name if there is one. */
export interface Band {
  /** Name of the series that it belongs to. */
  name: string;
  /** Points [x, low, high]. */
  points: [x: number, low: number, high: number][];
}

/** A plot. */
export interface LinePlot {
  /** Stands above the plot. */
  title: string;
  /** Under the x axis, with the unit. */
  xLabel: string;
  /** Beside the y axis, with the unit. */
  yLabel: string;
  /** The lines. */
  series: Series[];
  /** Areas behind the lines. */
  bands?: Band[];
}

/** Colours of the style sheet, which repeat after this many series. */
const COLOURS = 8;

/** Size of the drawing and of the margins for labels, in pixels. */
const WIDTH = 560, HEIGHT = 320, LEFT = 64, RIGHT = 14, TOP = 10, BOTTOM = 46;

/** Series of at most this many points get a dot on each, which shows its value when pointed at. */
const MOST_DOTS = 60;

/** Longer series are drawn as this many means of neighbouring points: about one for each pixel. */
const MOST_POINTS = 480;

/** Round numbers that cover a range, at most about `most`. */
export function ticks(low: number, high: number, most = 7): number[] {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * (1 - 1e-9))!;
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  // Multiplied rather than added up, and rounded, so that 0.3 is not 0.30000000000000004.
  return Array.from(
    { length: last - first + 1 },
    (_, i) => Number(((first + i) * step).toPrecision(15)) || 0,
  );
}

/** A number as a label: `0.5`, `12,000`, `3e-6`. */
function label(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential().replace("e+", "e");
  return value.toLocaleString("en", { maximumSignificantDigits: 12 });
}

/** A range with a little room at both ends; one value gets a range around it. */
function spread(values: number[], room: number): [number, number] {
  const finite = values.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  let low = Infinity, high = -Infinity;
  for (const value of finite) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const extra = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * room;
  return [low - extra, high + extra];
}

function thin(points: Series["points"]): Series["points"] {
  if (points.length <= MOST_POINTS) return points;
  return Array.from({ length: MOST_POINTS }, (_, i) => {
    const part = points.slice(
      Math.floor(i * points.length / MOST_POINTS),
      Math.floor((i + 1) * points.length / MOST_POINTS),
    );
    const mean = (at: 0 | 1) => part.reduce((sum, point) => sum + point[at], 0) / part.length;
    return [mean(0), mean(1)];
  });
}

/** A line plot with axes and legend, as a `<figure>`. */
export function linePlot({ title, xLabel, yLabel, series, bands = [] }: LinePlot): string {
  const all = series.flatMap(({ points }) => points), areas = bands.flatMap(({ points }) => points);
  const [x0, x1] = spread([...all.map(([x]) => x), ...areas.map(([x]) => x)], 0.02);
  const [y0, y1] = spread([...all.map(([, y]) => y), ...areas.flatMap(([, low, high]) => [low, high])], 0.06);
  const across = (x: number) => (LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const down = (y: number) => (HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const colour = (name: string) => {
    const at = series.findIndex((one) => one.name === name);
    return `c${(at < 0 ? series.length : at) % COLOURS}`;
  };
  const axis = { bottom: HEIGHT - BOTTOM, right: WIDTH - RIGHT };
  const grid = [
    ...ticks(x0, x1).map((x) =>
      `<path class="grid" d="M${across(x)} ${TOP}V${axis.bottom}"/>` +
      `<text x="${across(x)}" y="${axis.bottom + 16}" text-anchor="middle">${label(x)}</text>`
    ),
    ...ticks(y0, y1).map((y) =>
      `<path class="grid" d="M${LEFT} ${down(y)}H${axis.right}"/>` +
      `<text x="${LEFT - 7}" y="${down(y)}" dy="0.35em" text-anchor="end">${label(y)}</text>`
    ),
    `<path class="axis" d="M${LEFT} ${TOP}V${axis.bottom}H${axis.right}"/>`,
    `<text x="${(LEFT + axis.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${
      escapeHtml(xLabel)
    }</text>`,
    `<text transform="translate(14 ${(TOP + axis.bottom) / 2}) rotate(-90)" text-anchor="middle">${
      escapeHtml(yLabel)
    }</text>`,
  ];
  const shapes = bands.map(({ name, points }) => {
    const there = points.map(([x, low]) => `${across(x)} ${down(low)}`);
    const back = points.map(([x, , high]) => `${across(x)} ${down(high)}`).reverse();
    return points.length ? `<path class="band ${colour(name)}" d="M${[...there, ...back].join("L")}Z"/>` : "";
  });
  const lines = series.map(({ name, points, dashed }) => {
    const finite = (point: [number, number]) => point.every(Number.isFinite);
    const drawn = thin(points);
    const path = drawn.map((point, i) =>
      finite(point) ? `${i > 0 && finite(drawn[i - 1]) ? "L" : "M"}${across(point[0])} ${down(point[1])}` : ""
    ).join("");
    const dots = points.length > MOST_DOTS
      ? []
      : points.filter(finite).map(([x, y]) =>
        `<circle class="${colour(name)}" cx="${across(x)}" cy="${down(y)}" r="2.4"><title>${
          escapeHtml(name)
        }: ${label(Number(y.toPrecision(4)))} at ${label(Number(x.toPrecision(4)))}</title></circle>`
      );
    return `<path class="line ${colour(name)}${dashed ? " dashed" : ""}" d="${path}"/>${dots.join("")}`;
  });
  const legend = series.map(({ name, dashed }) =>
    `<li><svg class="swatch" width="22" height="8" aria-hidden="true"><path class="line ${colour(name)}${
      dashed ? " dashed" : ""
    }" d="M0 4H22"/></svg>${escapeHtml(name)}</li>`
  );
  return `<figure><figcaption>${escapeHtml(title)}</figcaption>` +
    `<ul class="legend">${legend.join("")}</ul>` +
    `<svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${
      [...grid, ...shapes, ...lines].join("\n")
    }</svg></figure>`;
}
