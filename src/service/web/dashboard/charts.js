/** Two plots over one time: what finished per minute, and how long it took. uPlot comes after the first paint. */

import { el, write } from "./dom.js";
import { duration, timeOfDay } from "./time.js";

/** @typedef {import("./throughput.js").Series} Series */
/** @typedef {Record<"accent" | "wash" | "line" | "quiet" | "completed" | "failed" | "cancelled" | "font", string>} Colours */

const HEIGHT = 150;

/**
 * Load uPlot, once.
 * @returns {Promise<any>}
 */
function library() {
  loading.promise ??= new Promise((resolve, reject) => {
    const room = import.meta.url.replace(/[^/]*$/, "");
    const script = el("script", { src: `${room}uPlot.iife.min.js` });
    script.addEventListener("load", () => resolve(/** @type {any} */ (window).uPlot));
    script.addEventListener("error", () => reject(new Error("The plot could not be loaded.")));
    document.head.append(el("link", { rel: "stylesheet", href: `${room}uPlot.min.css` }), script);
  });
  return loading.promise;
}

/** @type {{promise: Promise<any> | null}} */
const loading = { promise: null };

/** The plots, drawn anew when the room, the colours or the data change. */
export class Plots {
  /** @type {any[]} */
  #drawn = [];
  /** @type {Series | null} */
  #series = null;
  #stretch = 0;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #isClosed = false;

  /**
   * @param {HTMLElement} rate where to draw what finished
   * @param {HTMLElement} time where to draw how long it took
   * @param {HTMLElement} reading where to say what is under the pointer
   */
  constructor(rate, time, reading) {
    this.rooms = [rate, time];
    this.reading = reading;
    this.resized = new ResizeObserver(() => this.#fit());
    this.resized.observe(rate);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  /**
   * Draw.
   * @param {Series} series
   * @param {number} stretch how much time the plot is wide, in ms
   */
  async draw(series, stretch) {
    this.#series = series;
    if (stretch !== this.#stretch) this.#clear();
    this.#stretch = stretch;
    const uPlot = await library();
    if (this.#isClosed) return;
    if (this.#drawn.length === 0) this.#make(uPlot);
    const [rate, time] = dataOf(series);
    this.#drawn[0]?.setData(rate);
    this.#drawn[1]?.setData(time);
  }

  /** Draw no more. */
  close() {
    this.#isClosed = true;
    this.resized.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
    this.#clear();
  }

  #redraw = () => {
    this.#clear();
    if (this.#series) this.draw(this.#series, this.#stretch);
  };

  #clear() {
    for (const plot of this.#drawn) plot.destroy();
    this.#drawn = [];
  }

  #fit() {
    for (const [at, plot] of this.#drawn.entries())
      plot.setSize({ width: this.rooms[at]?.clientWidth, height: HEIGHT });
  }

  /** @param {any} uPlot */
  #make(uPlot) {
    const colours = coloursOf(this.rooms[0]);
    const common = {
      height: HEIGHT,
      cursor: { sync: { key: "plots" }, y: false },
      legend: { show: false },
      hooks: { setCursor: [(/** @type {any} */ plot) => this.#read(plot.cursor.idx)] },
    };
    const kinds = [
      { series: barsOf(uPlot, colours), values: whole, least: 1 },
      { series: lineOf(colours), values: durations, least: 0.001 },
    ];
    this.#drawn = kinds.map(({ series, values, least }, at) => {
      const room = /** @type {HTMLElement} */ (this.rooms[at]);
      const own = { width: room.clientWidth, series, axes: axesOf(colours, values), scales: scalesOf(least) };
      return new uPlot({ ...common, ...own }, dataOf(emptySeries)[at], room);
    });
  }

  /** @param {number | null | undefined} at */
  #read(at) {
    const series = this.#series;
    const start = series?.starts[at ?? -1];
    if (!series || start === undefined || at === null || at === undefined) return write(this.reading, "");
    const parts = /** @type {const} */ (["completed", "failed", "cancelled"]).map((status) => [
      series[status][at] ?? 0,
      status,
    ]);
    const rates = parts
      .filter(([rate]) => rate)
      .map(([rate, status]) => `${rate} ${status}`)
      .join(", ");
    const middle = series.medians[at];
    const took = middle === null || middle === undefined ? "" : `, median ${duration(middle * 1000)}`;
    write(this.reading, `${timeOfDay(start)}: ${rates || "none"} per minute${took}`);
  }
}

/** @type {Series} */
const emptySeries = { starts: [], completed: [], failed: [], cancelled: [], medians: [] };

/**
 * What uPlot draws: stacked bars are sums, the highest drawn first.
 * @param {Series} series
 * @returns {[(number | null)[][], (number | null)[][]]}
 */
function dataOf({ starts, completed, failed, cancelled, medians }) {
  const seconds = starts.map((start) => start / 1000);
  const two = completed.map((count, at) => count + (failed[at] ?? 0));
  const three = two.map((count, at) => count + (cancelled[at] ?? 0));
  return [
    [seconds, three, two, completed],
    [seconds, medians],
  ];
}

/**
 * @param {any} uPlot
 * @param {Colours} colours
 */
function barsOf(uPlot, colours) {
  const paths = uPlot.paths.bars({ size: [0.72, 24] });
  const drawn = [colours.cancelled, colours.failed, colours.completed];
  return [{}, ...drawn.map((fill) => ({ fill, width: 0, paths, points: { show: false } }))];
}

/** @param {Colours} colours */
function lineOf({ accent, wash }) {
  return [{}, { stroke: accent, width: 2, fill: wash, spanGaps: true, points: { size: 6, fill: accent } }];
}

/**
 * Half a bucket of room on each side, and a height that is never nothing.
 * @param {number} least
 */
function scalesOf(least) {
  return {
    x: {
      range: (/** @type {any} */ { data }, /** @type {number} */ first, /** @type {number} */ last) => {
        const half = ((data[0][1] ?? 0) - (data[0][0] ?? 0)) / 2;
        return [first - half, last + half];
      },
    },
    y: {
      range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ most) => [
        0,
        Math.max(most * 1.1, least),
      ],
    },
  };
}

/**
 * @param {unknown} _
 * @param {number[]} ticks
 */
function durations(_, ticks) {
  return ticks.map((tick) => duration(tick * 1000));
}

/**
 * @param {unknown} _
 * @param {number[]} ticks
 */
function whole(_, ticks) {
  return ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString() : ""));
}

/**
 * @param {Colours} colours
 * @param {any} values
 */
function axesOf(colours, values) {
  const grid = { stroke: colours.line, width: 1 };
  const look = { stroke: colours.quiet, grid, ticks: { show: false }, font: colours.font };
  const times = (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => timeOfDay(tick * 1000));
  return [
    { ...look, grid: { show: false }, values: times, size: 26, space: 70 },
    { ...look, values, size: 58, space: 36 },
  ];
}

/**
 * The colours and letters of the page as they are now: a canvas knows no custom properties.
 * @param {Element | undefined} element
 * @returns {Colours}
 */
function coloursOf(element) {
  const style = getComputedStyle(element ?? document.body);
  const names = ["accent", "wash", "line", "quiet", "completed", "failed", "cancelled"];
  const found = names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
  return { ...Object.fromEntries(found), font: `11px ${style.fontFamily}` };
}
