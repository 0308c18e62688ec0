/** How it goes over time: what finished, how long it took, out of the events of a stretch of time. */

import { toOverview } from "./router.js";
import { el, setAttribute, write } from "./dom.js";
import { STRETCHES, Throughput } from "./throughput.js";
import { duration, now } from "./time.js";

/** @typedef {import("./charts.js").Plots} Plots */
/** @typedef {keyof typeof STRETCHES} Stretch */

const STANDARD = "15m";

export class Trend {
  #isChanged = true;
  #drawnFor = 0;
  #isClosed = false;
  /** @type {Promise<Plots> | null} */
  #plots = null;
  /** @type {Stretch} */
  #stretch = STANDARD;
  #throughput = new Throughput(STRETCHES[STANDARD]);
  #summary = el("p", { class: "quiet" });
  #links = Object.entries(STRETCHES).map(([key, { short }]) =>
    el("a", { href: toOverview({ stretch: key }), "data-stretch": key }, short),
  );

  constructor() {
    const [rate, time, reading] = [
      el("div", { class: "plot" }),
      el("div", { class: "plot" }),
      el("p", { class: "reading number" }),
    ];
    this.rooms = /** @type {const} */ ([rate, time, reading]);
    const swatches = ["completed", "failed", "cancelled"].map((status) =>
      el("li", { class: `swatch ${status}` }, status),
    );
    this.node = el(
      "section",
      { class: "card trend", "aria-labelledby": "trend" },
      el(
        "header",
        {},
        el("h2", { id: "trend" }, "Over time"),
        el("nav", { "aria-label": "How far back", class: "choice" }, ...this.#links),
      ),
      this.#summary,
      el(
        "div",
        { class: "plots" },
        figure("Finished per minute", rate, el("ul", { class: "swatches" }, ...swatches)),
        figure("Time to finish, median", time, reading),
      ),
    );
  }

  /**
   * Look so far back.
   * @param {string} wanted
   */
  look(wanted) {
    this.#stretch = wanted in STRETCHES ? /** @type {Stretch} */ (wanted) : STANDARD;
    this.#throughput = new Throughput(STRETCHES[this.#stretch]);
    for (const link of this.#links)
      setAttribute(link, "aria-current", link.dataset.stretch === this.#stretch ? "true" : null);
  }

  /** From when on events are wanted. */
  since() {
    return new Date(now() - STRETCHES[this.#stretch].length).toISOString();
  }

  /** @param {import("./model.js").JobEvent} event */
  add(event) {
    this.#throughput.add(event);
    this.#isChanged = true;
  }

  /** Events come from the beginning again. */
  forget() {
    this.#throughput.forget();
    this.#isChanged = true;
  }

  /** Draw what has come since the last time; once a second is enough. */
  tick() {
    const { length, bucket, name } = STRETCHES[this.#stretch];
    const latest = Math.floor(now() / bucket);
    if (this.node.hidden || (!this.#isChanged && latest === this.#drawnFor)) return;
    this.#isChanged = false;
    this.#drawnFor = latest;
    this.#draw(this.#throughput.series(now()), length).catch(() =>
      write(this.rooms[2], "The plot could not be loaded."),
    );
    write(this.#summary, summaryOf(this.#throughput.summary(), name));
  }

  close() {
    this.#isClosed = true;
    this.#plots?.then((plots) => plots.close());
  }

  /**
   * What draws is not needed for the first paint: it comes when there is something to draw.
   * @param {import("./throughput.js").Series} series
   * @param {number} length
   */
  async #draw(series, length) {
    this.#plots ??= import("./charts.js").then(({ Plots }) => new Plots(...this.rooms));
    const plots = await this.#plots;
    if (!this.#isClosed) await plots.draw(series, length);
  }
}

/**
 * @param {string} caption
 * @param {HTMLElement} room
 * @param {HTMLElement} more
 */
function figure(caption, room, more) {
  return el("figure", {}, el("figcaption", {}, el("span", {}, caption), more), room);
}

/**
 * What the plots say, for who does not see them.
 * @param {{completed: number, failed: number, cancelled: number, median: number | null}} summary
 * @param {string} name
 */
function summaryOf({ completed, failed, cancelled, median }, name) {
  if (median === null) return `Nothing has finished in the last ${name}.`;
  const counts = `${completed.toLocaleString()} completed, ${failed.toLocaleString()} failed, ${cancelled.toLocaleString()} cancelled`;
  return `In the last ${name}: ${counts}. From creation to the end half of them took no more than ${duration(median * 1000)}.`;
}
