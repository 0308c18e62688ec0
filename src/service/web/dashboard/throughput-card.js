/** The card with the charts of finished jobs over a time range. */

import { el, setAttribute, setText } from "./dom.js";
import { overviewHref } from "./router.js";
import { RANGES, Throughput } from "./throughput.js";
import { duration, now } from "./time.js";

/** @typedef {import("./charts.js").Charts} Charts */
/** @typedef {keyof typeof RANGES} Range */

const DEFAULT_RANGE = "15m";

export class ThroughputCard {
  #isChanged = true;
  #drawnBucket = 0;
  #isClosed = false;
  /** @type {Promise<Charts> | null} */
  #charts = null;
  /** @type {Range} */
  #range = DEFAULT_RANGE;
  #throughput = new Throughput(RANGES[DEFAULT_RANGE]);
  #summary = el("p", { class: "muted" });
  #links = Object.entries(RANGES).map(([key, { short }]) =>
    el("a", { href: overviewHref({ range: key }), "data-range": key }, short),
  );

  constructor() {
    const [rate, time, readout] = [
      el("div", { class: "chart" }),
      el("div", { class: "chart" }),
      el("p", { class: "readout number" }),
    ];
    this.elements = /** @type {const} */ ([rate, time, readout]);
    const legend = ["completed", "failed", "cancelled"].map((status) =>
      el("li", { class: `legend-item ${status}` }, status),
    );
    this.node = el(
      "section",
      { class: "card throughput", "aria-labelledby": "throughput" },
      el(
        "header",
        {},
        el("h2", { id: "throughput" }, "Throughput"),
        el("nav", { "aria-label": "Time range", class: "ranges" }, ...this.#links),
      ),
      this.#summary,
      el(
        "div",
        { class: "charts" },
        figure("Finished per minute", rate, el("ul", { class: "legend" }, ...legend)),
        figure("Median time from creation to finish", time, readout),
      ),
    );
  }

  /**
   * Set the time range. An unknown name sets the default.
   * @param {string} name
   */
  setRange(name) {
    this.#range = name in RANGES ? /** @type {Range} */ (name) : DEFAULT_RANGE;
    this.#throughput = new Throughput(RANGES[this.#range]);
    for (const link of this.#links)
      setAttribute(link, "aria-current", link.dataset.range === this.#range ? "true" : null);
  }

  /** Return the start of the range, as ISO 8601. */
  since() {
    return new Date(now() - RANGES[this.#range].length).toISOString();
  }

  /** @param {import("./model.js").JobEvent} event */
  add(event) {
    this.#throughput.add(event);
    this.#isChanged = true;
  }

  /** Remove all events: the stream starts again. */
  clear() {
    this.#throughput.clear();
    this.#isChanged = true;
  }

  /** Draw the new events. Called once per second. */
  tick() {
    const { length, bucket, name } = RANGES[this.#range];
    const currentBucket = Math.floor(now() / bucket);
    if (this.node.hidden || (!this.#isChanged && currentBucket === this.#drawnBucket)) return;
    this.#isChanged = false;
    this.#drawnBucket = currentBucket;
    this.#draw(this.#throughput.series(now()), length).catch(() =>
      setText(this.elements[2], "Could not load the charts."),
    );
    setText(this.#summary, summaryText(this.#throughput.summary(), name));
  }

  close() {
    this.#isClosed = true;
    this.#charts?.then((charts) => charts.close());
  }

  /**
   * Draw the charts. Their module is loaded after the first paint.
   * @param {import("./throughput.js").Series} series
   * @param {number} length
   */
  async #draw(series, length) {
    this.#charts ??= import("./charts.js").then(({ Charts }) => new Charts(...this.elements));
    const charts = await this.#charts;
    if (!this.#isClosed) await charts.draw(series, length);
  }
}

/**
 * @param {string} caption
 * @param {HTMLElement} chart
 * @param {HTMLElement} aside
 */
function figure(caption, chart, aside) {
  return el("figure", {}, el("figcaption", {}, el("span", {}, caption), aside), chart);
}

/**
 * Return the charts' content as text, which screen readers need.
 * @param {{completed: number, failed: number, cancelled: number, median: number | null}} summary
 * @param {string} name
 */
function summaryText({ completed, failed, cancelled, median }, name) {
  if (median === null) return `No jobs finished in the last ${name}.`;
  const counts = `${completed.toLocaleString()} completed, ${failed.toLocaleString()} failed, ${cancelled.toLocaleString()} cancelled`;
  return `In the last ${name}: ${counts}. Median time from creation to finish: ${duration(median * 1000)}.`;
}
