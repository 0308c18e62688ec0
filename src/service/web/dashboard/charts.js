/** Two charts with one time axis: jobs finished per minute, and how long they took. */

import { el, setText } from "./dom.js";
import { duration, timeOfDay } from "./time.js";

/** @typedef {import("./throughput.js").Series} Series */
/** @typedef {Record<"accent" | "tint" | "border" | "muted" | "completed" | "failed" | "cancelled" | "font", string>} Style */

const HEIGHT = 150;

/**
 * Load uPlot on the first call.
 * @returns {Promise<any>}
 */
function loadUPlot() {
  library.promise ??= new Promise((resolve, reject) => {
    const directory = import.meta.url.replace(/[^/]*$/, "");
    const script = el("script", { src: `${directory}uPlot.iife.min.js` });
    script.addEventListener("load", () => resolve(/** @type {any} */ (window).uPlot));
    script.addEventListener("error", () => reject(new Error("Could not load the charts.")));
    document.head.append(el("link", { rel: "stylesheet", href: `${directory}uPlot.min.css` }), script);
  });
  return library.promise;
}

/** @type {{promise: Promise<any> | null}} */
const library = { promise: null };

/** The charts. They follow the size of their container, the colour scheme and the data. */
export class Charts {
  /** @type {any[]} */
  #plots = [];
  /** @type {Series | null} */
  #series = null;
  #range = 0;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #isClosed = false;

  /**
   * @param {HTMLElement} rate the container of the chart of finished jobs
   * @param {HTMLElement} time the container of the chart of durations
   * @param {HTMLElement} readout shows the values under the pointer
   */
  constructor(rate, time, readout) {
    this.containers = [rate, time];
    this.readout = readout;
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(rate);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  /**
   * Draw the data.
   * @param {Series} series
   * @param {number} range the length of the time axis in ms
   */
  async draw(series, range) {
    this.#series = series;
    if (range !== this.#range) this.#clear();
    this.#range = range;
    const uPlot = await loadUPlot();
    if (this.#isClosed) return;
    if (this.#plots.length === 0) this.#create(uPlot);
    const [rate, time] = plotData(series);
    this.#plots[0]?.setData(rate);
    this.#plots[1]?.setData(time);
  }

  close() {
    this.#isClosed = true;
    this.observer.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
    this.#clear();
  }

  #redraw = () => {
    this.#clear();
    if (this.#series) this.draw(this.#series, this.#range);
  };

  #clear() {
    for (const plot of this.#plots) plot.destroy();
    this.#plots = [];
  }

  #resize() {
    for (const [index, plot] of this.#plots.entries())
      plot.setSize({ width: this.containers[index]?.clientWidth, height: HEIGHT });
  }

  /** @param {any} uPlot */
  #create(uPlot) {
    const style = readStyle(this.containers[0]);
    const common = {
      height: HEIGHT,
      cursor: { sync: { key: "charts" }, y: false },
      legend: { show: false },
      hooks: { setCursor: [(/** @type {any} */ plot) => this.#showReadout(plot.cursor.idx)] },
    };
    const kinds = [
      { series: barSeries(uPlot, style), values: wholeNumbers, minHeight: 1 },
      { series: lineSeries(style), values: durations, minHeight: 0.001 },
    ];
    this.#plots = kinds.map(({ series, values, minHeight }, index) => {
      const container = /** @type {HTMLElement} */ (this.containers[index]);
      const own = { width: container.clientWidth, series, axes: axes(style, values), scales: scales(minHeight) };
      return new uPlot({ ...common, ...own }, plotData(EMPTY_SERIES)[index], container);
    });
  }

  /** @param {number | null | undefined} index */
  #showReadout(index) {
    const series = this.#series;
    const start = series?.starts[index ?? -1];
    if (!series || start === undefined || index === null || index === undefined) return setText(this.readout, "");
    const rates = /** @type {const} */ (["completed", "failed", "cancelled"])
      .filter((status) => series[status][index])
      .map((status) => `${series[status][index]} ${status}`)
      .join(", ");
    const seconds = series.medians[index];
    const median = seconds === null || seconds === undefined ? "" : `, median ${duration(seconds * 1000)}`;
    setText(this.readout, `${timeOfDay(start)}: ${rates || "none"} per minute${median}`);
  }
}

/** @type {Series} */
const EMPTY_SERIES = { starts: [], completed: [], failed: [], cancelled: [], medians: [] };

/**
 * Return the data of both charts for uPlot. Stacked bars are sums, the highest first.
 * @param {Series} series
 * @returns {[(number | null)[][], (number | null)[][]]}
 */
function plotData({ starts, completed, failed, cancelled, medians }) {
  const seconds = starts.map((start) => start / 1000);
  const two = completed.map((count, index) => count + (failed[index] ?? 0));
  const three = two.map((count, index) => count + (cancelled[index] ?? 0));
  return [
    [seconds, three, two, completed],
    [seconds, medians],
  ];
}

/**
 * @param {any} uPlot
 * @param {Style} style
 */
function barSeries(uPlot, style) {
  const paths = uPlot.paths.bars({ size: [0.72, 24] });
  const colors = [style.cancelled, style.failed, style.completed];
  return [{}, ...colors.map((fill) => ({ fill, width: 0, paths, points: { show: false } }))];
}

/** @param {Style} style */
function lineSeries({ accent, tint }) {
  return [{}, { stroke: accent, width: 2, fill: tint, spanGaps: true, points: { size: 6, fill: accent } }];
}

/**
 * Return scales with half a bucket of space on each side, and with a minimum height.
 * @param {number} minHeight
 */
function scales(minHeight) {
  return {
    x: {
      range: (/** @type {any} */ { data }, /** @type {number} */ first, /** @type {number} */ last) => {
        const half = ((data[0][1] ?? 0) - (data[0][0] ?? 0)) / 2;
        return [first - half, last + half];
      },
    },
    y: {
      range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ max) => [
        0,
        Math.max(max * 1.1, minHeight),
      ],
    },
  };
}

/**
 * Return the labels of the time axis, none without data.
 * @param {any} plot
 * @param {number[]} ticks
 */
function durations({ data }, ticks) {
  const hasData = data[1].some((/** @type {number | null} */ value) => value !== null);
  return ticks.map((tick) => (hasData ? duration(tick * 1000) : ""));
}

/**
 * @param {unknown} _
 * @param {number[]} ticks
 */
function wholeNumbers(_, ticks) {
  return ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString() : ""));
}

/**
 * @param {Style} style
 * @param {any} values
 */
function axes(style, values) {
  const grid = { stroke: style.border, width: 1 };
  const common = { stroke: style.muted, grid, ticks: { show: false }, font: style.font };
  const times = (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => timeOfDay(tick * 1000));
  return [
    { ...common, grid: { show: false }, values: times, size: 26, space: 70 },
    { ...common, values, size: 72, space: 36 },
  ];
}

/**
 * Return the page's current colours and font. A canvas cannot use CSS custom properties.
 * @param {Element | undefined} element
 * @returns {Style}
 */
function readStyle(element) {
  const style = getComputedStyle(element ?? document.body);
  const names = ["accent", "tint", "border", "muted", "completed", "failed", "cancelled"];
  const colors = names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
  return { ...Object.fromEntries(colors), font: `11px ${style.fontFamily}` };
}
