/** What happened to a job, one change after the other. */

import { el, Parts, setAttribute, show } from "./dom.js";
import { absolute, duration, timeOfDay } from "./time.js";

/** @typedef {import("./model.js").History} History */
/** @typedef {History["items"][number]} Change */

/** Words for a change; one that this page does not know yet stands as it is. @type {Record<string, string>} */
const WORDS = {
  created: "created",
  running: "taken on",
  pending: "pending again",
  "cancel-requested": "cancel asked for",
};

/** The time line. */
export function timeline() {
  const list = el("ol");
  const gone = el("p", { class: "quiet", hidden: true }, "Older changes are not kept any more.");
  const parts = new Parts(
    list,
    (/** @type {Change & {after: number | null}} */ { revision, change }) => `${revision} ${change}`,
    entry,
  );
  const node = el(
    "section",
    { class: "card timeline", "aria-labelledby": "timeline" },
    el("h2", { id: "timeline" }, "Changes"),
    gone,
    list,
  );
  return {
    node,
    /** @param {History} history */
    update({ items, complete }) {
      show(gone, !complete);
      setAttribute(list, "data-complete", complete);
      parts.show(items.map((item, at) => ({ ...item, after: sinceBefore(items, at) })));
    },
  };
}

/** @param {Change & {after: number | null}} item */
function entry({ at, revision, change, after }) {
  const time = el("time", { datetime: at, title: absolute(at) }, timeOfDay(Date.parse(at), true));
  const later = after === null ? "" : `+${duration(after)}`;
  const node = el(
    "li",
    { class: change },
    el("span", { class: "change" }, WORDS[change] ?? change),
    el("span", { class: "quiet number" }, later),
    time,
    el("span", { class: "quiet number", title: "Revision" }, `#${revision}`),
  );
  return { node, update: () => {} };
}

/**
 * @param {Change[]} items
 * @param {number} at
 */
function sinceBefore(items, at) {
  const [before, item] = [items[at - 1], items[at]];
  return before && item ? Date.parse(item.at) - Date.parse(before.at) : null;
}
