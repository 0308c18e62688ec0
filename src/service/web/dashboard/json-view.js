/** A JSON value as a tree that folds. A folded part is not scanned, so that a megabyte is shown at once. */

import { el, fill } from "./dom.js";
import { members, scanValue } from "./json-scanner.js";
import { copy } from "./toasts.js";

/** @typedef {import("./json-scanner.js").Span} Span */

/** Members that one click on "Show more" adds. */
const MEMBERS_PER_CHUNK = 100;
/** Characters of a string that are shown at first. */
const MAX_STRING = 2000;
/** Levels that are indented. */
const MAX_INDENT = 10;
/** Characters up to which a value is unfolded from the start, and up to which its members are counted. */
const MAX_UNFOLDED = 600;
const MAX_COUNTED = 100_000;

/**
 * Return a JSON text as a tree under a heading.
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
      el("span", { class: "muted" }, sizeText(text)),
      el(
        "button",
        { type: "button", class: "small", click: () => copy(text, name) },
        "Copy",
        el("span", { class: "visually-hidden" }, ` ${name} as JSON`),
      ),
    ),
    el("div", { class: "tree" }, valueNode(text, scanValue(text, 0), null, 0)),
  );
}

/**
 * @param {string} text
 * @param {Span} span
 * @param {string | null} key
 * @param {number} depth
 * @returns {HTMLElement}
 */
function valueNode(text, span, key, depth) {
  const label = key === null ? null : el("span", { class: "key" }, key, ": ");
  const isContainer = (span.kind === "object" || span.kind === "array") && !isEmpty(text, span);
  if (!isContainer) return el("div", { class: "leaf" }, label, leafNode(text, span));
  return containerNode(text, span, label, depth);
}

/**
 * @param {string} text
 * @param {Span} span
 * @param {HTMLElement | null} label
 * @param {number} depth
 */
function containerNode(text, span, label, depth) {
  const content = el("div", { class: depth < MAX_INDENT ? "content" : "content deep" });
  const summary = el("summary", {}, label, el("span", { class: "muted" }, summaryText(text, span)));
  const details = el("details", {}, summary, content);
  const iterator = members(text, span);
  const unfold = () => content.firstChild || appendChunk(content, text, iterator, 0, depth + 1);
  details.addEventListener("toggle", unfold, { once: true });
  if (depth === 0 || span.end - span.start <= MAX_UNFOLDED) {
    details.open = true;
    unfold();
  }
  return details;
}

/**
 * Append the next members, and a button if more follow.
 * @param {HTMLElement} content
 * @param {string} text
 * @param {Iterator<import("./json-scanner.js").Member, void>} iterator
 * @param {number} count the number of members before these
 * @param {number} depth
 */
function appendChunk(content, text, iterator, count, depth) {
  for (let added = 0; added < MEMBERS_PER_CHUNK; added += 1) {
    const { done, value: member } = iterator.next();
    if (done || !member) return;
    content.append(valueNode(text, member.value, member.key ?? String(count + added), depth));
  }
  const next = iterator.next();
  if (next.done || !next.value) return;
  const first = next.value;
  const button = el(
    "button",
    { type: "button", class: "small" },
    `Show more after ${(count + MEMBERS_PER_CHUNK).toLocaleString()}`,
  );
  button.addEventListener("click", () => {
    const node = valueNode(text, first.value, first.key ?? String(count + MEMBERS_PER_CHUNK), depth);
    button.replaceWith(node);
    appendChunk(content, text, iterator, count + MEMBERS_PER_CHUNK + 1, depth);
    /** @type {HTMLElement | null} */ (
      node.querySelector("summary") ?? content.querySelector(":scope > button")
    )?.focus();
  });
  content.append(button);
}

/**
 * @param {string} text
 * @param {Span} span
 */
function leafNode(text, span) {
  const raw = text.slice(span.start, span.end);
  if (span.kind !== "string") return el("span", { class: span.kind }, raw);
  const string = JSON.parse(raw);
  const element = el("span", { class: string.includes("\n") ? "string lines" : "string" });
  element.textContent = truncate(string);
  if (string.length <= MAX_STRING) return element;
  const showAll = el(
    "button",
    { type: "button", class: "small" },
    `Show all ${string.length.toLocaleString()} characters`,
  );
  showAll.addEventListener("click", () => fill(element, string));
  return el("span", {}, element, " ", showAll);
}

/** @param {string} text */
function truncate(text) {
  return text.length > MAX_STRING ? `${text.slice(0, MAX_STRING)}…` : text;
}

/**
 * @param {string} text
 * @param {Span} span
 */
function summaryText(text, span) {
  const [open, close] = span.kind === "object" ? ["{", "}"] : ["[", "]"];
  const size = sizeText(text.slice(span.start, span.end));
  if (span.end - span.start > MAX_COUNTED) return `${open}…${close} ${size}`;
  let count = 0;
  for (const _ of members(text, span)) count += 1;
  const [singular, plural] = span.kind === "object" ? ["field", "fields"] : ["item", "items"];
  return `${open}…${close} ${count} ${count === 1 ? singular : plural}, ${size}`;
}

/**
 * @param {string} text
 * @param {Span} span
 */
function isEmpty(text, span) {
  return members(text, span).next().done === true;
}

/** @param {string} text */
function sizeText(text) {
  const bytes = new Blob([text]).size;
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
