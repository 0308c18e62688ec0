/** JSON to read, fold and copy. What is folded is not looked into, so that a megabyte is there at once. */

import { el, fill } from "./dom.js";
import { members, spanOf } from "./json-scanner.js";
import { copy } from "./toasts.js";

/** @typedef {import("./json-scanner.js").Span} Span */

/** So many members are shown at one time, so many characters of a text, and so deep it goes to the right. */
const CHUNK = 100;
const SHOWN_TEXT = 2000;
const INDENTED = 10;
/** What is shorter is unfolded from the start, and counted before it is. */
const UNFOLDED = 600;
const COUNTED = 100_000;

/**
 * Show a JSON text under a heading.
 * @param {string} name
 * @param {string} text
 */
export function jsonView(name, text) {
  const id = `json-${name.toLowerCase()}`;
  return el(
    "section",
    { class: "json card", "aria-labelledby": id },
    el(
      "header",
      {},
      el("h2", { id }, name),
      el("span", { class: "quiet" }, sizeOf(text)),
      el(
        "button",
        { type: "button", class: "small", click: () => copy(text, name) },
        "Copy",
        el("span", { class: "unseen" }, ` ${name} as it was sent`),
      ),
    ),
    el("div", { class: "tree" }, value(text, spanOf(text, 0), null, 0)),
  );
}

/**
 * @param {string} text
 * @param {Span} span
 * @param {string | null} key
 * @param {number} depth
 * @returns {HTMLElement}
 */
function value(text, span, key, depth) {
  const label = key === null ? null : el("span", { class: "key" }, key, ": ");
  const isFolder = (span.kind === "object" || span.kind === "array") && !isEmpty(text, span);
  if (!isFolder) return el("div", { class: "leaf" }, label, leaf(text, span));
  return folder(text, span, label, depth);
}

/**
 * @param {string} text
 * @param {Span} span
 * @param {HTMLElement | null} label
 * @param {number} depth
 */
function folder(text, span, label, depth) {
  const inside = el("div", { class: depth < INDENTED ? "inside" : "inside deep" });
  const summary = el("summary", {}, label, el("span", { class: "quiet" }, described(text, span)));
  const details = el("details", {}, summary, inside);
  const rest = members(text, span);
  const unfold = () => inside.firstChild || more(inside, text, rest, 0, depth + 1);
  details.addEventListener("toggle", unfold, { once: true });
  if (depth === 0 || span.end - span.start <= UNFOLDED) {
    details.open = true;
    unfold();
  }
  return details;
}

/**
 * Show the next members, and a button for those that follow.
 * @param {HTMLElement} inside
 * @param {string} text
 * @param {Iterator<import("./json-scanner.js").Member, void>} rest
 * @param {number} count
 * @param {number} depth
 */
function more(inside, text, rest, count, depth) {
  for (let shown = 0; shown < CHUNK; shown += 1) {
    const { done, value: member } = rest.next();
    if (done || !member) return;
    inside.append(value(text, member.value, member.key ?? String(count + shown), depth));
  }
  const next = rest.next();
  if (next.done || !next.value) return;
  const first = next.value;
  const button = el(
    "button",
    { type: "button", class: "small" },
    `Show more after ${(count + CHUNK).toLocaleString()}`,
  );
  button.addEventListener("click", () => {
    const shown = value(text, first.value, first.key ?? String(count + CHUNK), depth);
    button.replaceWith(shown);
    more(inside, text, rest, count + CHUNK + 1, depth);
    /** @type {HTMLElement | null} */ (
      shown.querySelector("summary") ?? inside.querySelector(":scope > button")
    )?.focus();
  });
  inside.append(button);
}

/**
 * @param {string} text
 * @param {Span} span
 */
function leaf(text, span) {
  const raw = text.slice(span.start, span.end);
  if (span.kind !== "string") return el("span", { class: span.kind }, raw);
  const words = JSON.parse(raw);
  const element = el("span", { class: words.includes("\n") ? "string lines" : "string" });
  element.textContent = shortened(words);
  if (words.length <= SHOWN_TEXT) return element;
  const all = el("button", { type: "button", class: "small" }, `Show all ${words.length.toLocaleString()} characters`);
  all.addEventListener("click", () => fill(element, words));
  return el("span", {}, element, " ", all);
}

/** @param {string} words */
function shortened(words) {
  return words.length > SHOWN_TEXT ? `${words.slice(0, SHOWN_TEXT)}…` : words;
}

/**
 * @param {string} text
 * @param {Span} span
 */
function described(text, span) {
  const [open, close] = span.kind === "object" ? ["{", "}"] : ["[", "]"];
  const size = sizeOf(text.slice(span.start, span.end));
  if (span.end - span.start > COUNTED) return `${open}…${close} ${size}`;
  let count = 0;
  for (const _ of members(text, span)) count += 1;
  const [one, many] = span.kind === "object" ? ["field", "fields"] : ["item", "items"];
  return `${open}…${close} ${count} ${count === 1 ? one : many}, ${size}`;
}

/**
 * @param {string} text
 * @param {Span} span
 */
function isEmpty(text, span) {
  return members(text, span).next().done === true;
}

/** @param {string} text */
function sizeOf(text) {
  const bytes = new Blob([text]).size;
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
