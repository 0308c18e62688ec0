/** The jobs that an action on many jobs could not change, and why. */

import { problemTitle } from "./bulk-texts.js";
import { el } from "./dom.js";
import { jobHref } from "./router.js";

/** @typedef {import("./openapi.js").components["schemas"]["RefusedJob"]} RefusedJob */
/** @typedef {{refused: Record<string, number>, examples: RefusedJob[]}} Refusals */

/** How many jobs are named, as in a bulk action. */
export const MAX_EXAMPLES = 10;

/** Return an entry for each problem: how many jobs had it, and links to some of them. @param {Refusals} refusals */
export function refusedEntries({ refused, examples }) {
  return Object.entries(refused).map(([type, count]) => {
    const ids = examples.filter((example) => example.type === type).map(({ job_id }) => job_id);
    const links = ids.map((id) => el("li", {}, el("a", { class: "label id", href: jobHref(id) }, id)));
    const others = count - ids.length;
    if (others > 0 && ids.length > 0) links.push(el("li", { class: "muted" }, `and ${others.toLocaleString()} more`));
    return el("li", {}, `${problemTitle(type)}: ${count.toLocaleString()}`, el("ul", { class: "labels" }, ...links));
  });
}

/**
 * Show the refused jobs in a dialog until it is closed.
 * @param {string} title
 * @param {Refusals} refusals
 * @returns {Promise<void>}
 */
export function showRefused(title, refusals) {
  const close = el("button", { type: "button", class: "primary", click: () => dialog.close() }, "Close");
  const dialog = el(
    "dialog",
    { "aria-labelledby": "refused-title" },
    el("h2", { id: "refused-title" }, title),
    el("ul", { class: "refused" }, ...refusedEntries(refusals)),
    el("div", { class: "actions" }, close),
  );
  dialog.addEventListener("click", ({ target }) => target instanceof HTMLAnchorElement && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
  });
}
