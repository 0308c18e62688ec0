/** The history of a job. */

import { el, KeyedList, show } from "./dom.js";
import { absolute, duration, timeOfDay } from "./time.js";

/** @typedef {import("./model.js").History} History */
/** @typedef {History["items"][number]} HistoryEntry */
/** @typedef {HistoryEntry & {elapsed: number | null}} TimelineEntry ms since the entry before it */

/** Labels of changes. A change without a label is shown by its name. @type {Record<string, string>} */
const LABELS = {
  running: "started",
  pending: "requeued",
  "cancel-requested": "cancel requested",
};

/** Return the timeline. */
export function timeline() {
  const list = el("ol");
  const truncated = el("p", { class: "muted", hidden: true }, "Older changes are no longer stored.");
  const entries = new KeyedList(
    list,
    (/** @type {TimelineEntry} */ { revision, change }) => `${revision} ${change}`,
    entry,
  );
  const node = el(
    "section",
    { class: "card timeline", "aria-labelledby": "timeline" },
    el("h2", { id: "timeline" }, "History"),
    truncated,
    list,
  );
  return {
    node,
    /** @param {History} history */
    update({ items, complete }) {
      show(truncated, !complete);
      entries.update(items.map((item, index) => ({ ...item, elapsed: sincePrevious(items, index) })));
    },
  };
}

/** @param {TimelineEntry} item */
function entry({ at, revision, change, by, attempt, error, elapsed }) {
  const time = el("time", { datetime: at, title: absolute(at) }, timeOfDay(Date.parse(at), true));
  const node = el(
    "li",
    { class: change },
    el("span", { class: "change" }, LABELS[change] ?? change, by && el("span", { class: "muted by" }, ` by ${by}`)),
    el("span", { class: "muted number" }, elapsed === null ? "" : `+${duration(elapsed)}`),
    time,
    el("span", { class: "muted number", title: "Revision" }, `#${revision}`),
    error && el("code", { class: "attempt-error", title: `Error of attempt ${attempt}` }, error),
  );
  return { node, update: () => {} };
}

/**
 * @param {HistoryEntry[]} items
 * @param {number} index
 */
function sincePrevious(items, index) {
  const [previous, item] = [items[index - 1], items[index]];
  return previous && item ? Date.parse(item.at) - Date.parse(previous.at) : null;
}
