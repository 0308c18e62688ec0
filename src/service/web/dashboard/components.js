/** Small elements that several views share. */

import { el, fill, icon, show } from "./dom.js";
import { STATUSES } from "./model.js";
import { jobsHref } from "./router.js";

/**
 * Return a badge with icon, colour and name of a status. An unknown status has its name only.
 * @param {string} status
 */
export function statusBadge(status) {
  const known = STATUSES.find((name) => name === status);
  return el("span", { class: `badge ${known ?? ""}` }, known ? icon(known) : null, status);
}

/** Return the badge of a job whose lease has expired. */
export function staleBadge() {
  return el(
    "span",
    { class: "badge stale", title: "The lease has expired and the job is not requeued yet" },
    icon("stale"),
    "stale",
  );
}

/**
 * Return the labels of a job, each a link to the jobs that have it; null without labels.
 * @param {Record<string, string> | undefined} labels
 */
export function labelList(labels) {
  const all = Object.entries(labels ?? {}).map(([key, value]) => `${key}:${value}`);
  if (all.length === 0) return null;
  const links = all.map((label) => el("a", { class: "label", href: jobsHref({ label }) }, label));
  return el("ul", { class: "labels" }, ...links.map((link) => el("li", {}, link)));
}

/**
 * Return a box that shows a command, with a button that copies it.
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
 * Return what a view shows in place of missing content.
 * @param {string} title
 * @param {...import("./dom.js").Child} children
 */
export function emptyState(title, ...children) {
  return el("section", { class: "empty" }, el("h2", {}, title), ...children);
}

/**
 * Return a progress bar with its numbers. It is hidden without progress.
 * @param {string} label
 */
export function progressBar(label) {
  const bar = el("progress", { "aria-label": label, max: 1 });
  const numbers = el("span", { class: "number" });
  const node = el("div", { class: "bar" }, bar, numbers);
  return {
    node,
    /** @param {import("./model.js").Job["progress"]} progress */
    update(progress) {
      show(node, progress);
      if (!progress) return;
      const fraction = progress.total ? Math.min(progress.current / progress.total, 1) : null;
      if (fraction === null) bar.removeAttribute("value");
      else bar.value = fraction;
      show(bar, fraction !== null);
      const total = progress.total ? ` of ${progress.total.toLocaleString()}` : "";
      const percent = fraction === null ? "" : `${Math.floor(fraction * 100)}% · `;
      fill(numbers, percent, `${progress.current.toLocaleString()}${total}`);
    },
  };
}
