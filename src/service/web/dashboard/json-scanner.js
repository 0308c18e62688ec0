/**
 * JSON as text that is looked into no further than asked for: a number stays as it was written, and a megabyte costs
 * nothing until it is unfolded. The service has checked that the text is valid.
 */

/** @typedef {"object" | "array" | "string" | "number" | "true" | "false" | "null"} Kind */
/** @typedef {{kind: Kind, start: number, end: number}} Span where a value stands in the text */
/** @typedef {{key: string | null, value: Span}} Member */

/** @type {Record<string, Kind>} */
const KINDS = { "{": "object", "[": "array", '"': "string", t: "true", f: "false", n: "null" };

/**
 * Find the value that begins at `from`, after white space.
 * @param {string} text
 * @param {number} from
 * @returns {Span}
 */
export function spanOf(text, from) {
  const start = afterSpace(text, from);
  const kind = KINDS[text[start] ?? ""] ?? "number";
  return { kind, start, end: endOf(text, start, kind) };
}

/**
 * Go through what an object or an array has, one by one; the key is null in an array.
 * @param {string} text
 * @param {Span} span
 * @returns {Generator<Member, void>}
 */
export function* members(text, span) {
  let at = afterSpace(text, span.start + 1);
  while (at < span.end - 1) {
    let key = null;
    if (span.kind === "object") {
      const end = stringEnd(text, at);
      key = JSON.parse(text.slice(at, end));
      at = afterSpace(text, end) + 1;
    }
    const value = spanOf(text, at);
    yield { key, value };
    at = afterSpace(text, value.end);
    if (text[at] === ",") at = afterSpace(text, at + 1);
  }
}

/**
 * @param {string} text
 * @param {number} start
 * @param {Kind} kind
 */
function endOf(text, start, kind) {
  if (kind === "string") return stringEnd(text, start);
  if (kind === "object" || kind === "array") return closing(text, start);
  const word = /[^\s,\]}]*/y;
  word.lastIndex = start;
  word.exec(text);
  return word.lastIndex;
}

/**
 * @param {string} text
 * @param {number} start
 */
function closing(text, start) {
  const marks = /["[\]{}]/g;
  marks.lastIndex = start;
  let depth = 0;
  for (let found = marks.exec(text); found; found = marks.exec(text)) {
    if (found[0] === '"') marks.lastIndex = stringEnd(text, found.index);
    else depth += found[0] === "{" || found[0] === "[" ? 1 : -1;
    if (depth === 0) return marks.lastIndex;
  }
  return text.length;
}

/**
 * @param {string} text
 * @param {number} start where its first quotation mark is
 */
function stringEnd(text, start) {
  for (let at = text.indexOf('"', start + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text[at - 1 - slashes] === "\\") slashes += 1;
    if (slashes % 2 === 0) return at + 1;
  }
  return text.length;
}

/**
 * @param {string} text
 * @param {number} at
 */
function afterSpace(text, at) {
  const space = /[ \t\r\n]*/y;
  space.lastIndex = at;
  space.exec(text);
  return space.lastIndex;
}
