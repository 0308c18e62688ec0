/** The small things that stand for a job in every view. */

import { el, fill, mark, show } from "./dom.js";
import { STATUSES } from "./model.js";

/**
 * A status by shape, colour and word. One that this page does not know yet is shown by its word.
 * @param {string} status
 */
export function badge(status) {
  const known = STATUSES.find((one) => one === status);
  return el("span", { class: `badge ${known ?? ""}` }, known ? mark(known) : null, status);
}

/** Says that a job's lease has run out. */
export function staleBadge() {
  return el(
    "span",
    { class: "badge stale", title: "Its lease has run out and nobody has acted on it yet" },
    mark("stale"),
    "stale",
  );
}

/**
 * A command in a box, with a button that copies it.
 * @param {string} command
 * @param {(text: string, name: string) => void} copy
 */
export function commandBox(command, copy) {
  return el(
    "div",
    { class: "command" },
    el("pre", { tabindex: 0, "aria-label": "Command" }, el("code", {}, command)),
    el("button", { type: "button", class: "small", click: () => copy(command, "Command") }, "Copy"),
  );
}

/**
 * What is shown where there is nothing.
 * @param {string} title
 * @param {...import("./dom.js").Child} more
 */
export function emptiness(title, ...more) {
  return el("section", { class: "empty" }, el("h2", {}, title), ...more);
}

/**
 * A bar of progress with its numbers; hidden where there is none.
 * @param {string} label
 */
export function bar(label) {
  const progress = el("progress", { "aria-label": label, max: 1 });
  const words = el("span", { class: "number" });
  const node = el("div", { class: "bar" }, progress, words);
  return {
    node,
    /** @param {import("./model.js").Job["progress"]} told */
    update(told) {
      show(node, told);
      if (!told) return;
      const share = told.total ? Math.min(told.current / told.total, 1) : null;
      if (share === null) progress.removeAttribute("value");
      else progress.value = share;
      show(progress, share !== null);
      const of = told.total ? ` of ${told.total.toLocaleString()}` : "";
      fill(words, share === null ? "" : `${Math.floor(share * 100)}% · `, `${told.current.toLocaleString()}${of}`);
    },
  };
}
