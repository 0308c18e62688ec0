/**
 * Finds values in a JSON text without parsing it. Numbers keep their digits, and a nested value costs nothing until it
 * is needed. The text must be valid JSON; the service has checked it.
 */

/** @typedef {"object" | "array" | "string" | "number" | "true" | "false" | "null"} Kind */
/** @typedef {{kind: Kind, start: number, end: number}} Span the position of a value in the text */
/** @typedef {{key: string | null, value: Span}} Member */

/** @type {Record<string, Kind>} */
const KINDS = { "{": "object", "[": "array", '"': "string", t: "true", f: "false", n: "null" };

/**
 * Return the span of the value that begins at `from`, after white space.
 * @param {string} text
 * @param {number} from
 * @returns {Span}
 */
export function scanValue(text, from) {
  const start = skipSpace(text, from);
  const kind = KINDS[text[start] ?? ""] ?? "number";
  return { kind, start, end: valueEnd(text, start, kind) };
}

/**
 * Iterate over the members of an object, or over the items of an array, whose key is null.
 * @param {string} text
 * @param {Span} span
 * @returns {Generator<Member, void>}
 */
export function* members(text, span) {
  let position = skipSpace(text, span.start + 1);
  while (position < span.end - 1) {
    let key = null;
    if (span.kind === "object") {
      const end = stringEnd(text, position);
      key = JSON.parse(text.slice(position, end));
      position = skipSpace(text, end) + 1;
    }
    const value = scanValue(text, position);
    yield { key, value };
    position = skipSpace(text, value.end);
    if (text[position] === ",") position = skipSpace(text, position + 1);
  }
}

/**
 * @param {string} text
 * @param {number} start
 * @param {Kind} kind
 */
function valueEnd(text, start, kind) {
  if (kind === "string") return stringEnd(text, start);
  if (kind === "object" || kind === "array") return containerEnd(text, start);
  const token = /[^\s,\]}]*/y;
  token.lastIndex = start;
  token.exec(text);
  return token.lastIndex;
}

/**
 * @param {string} text
 * @param {number} start
 */
function containerEnd(text, start) {
  const delimiters = /["[\]{}]/g;
  delimiters.lastIndex = start;
  let depth = 0;
  for (let match = delimiters.exec(text); match; match = delimiters.exec(text)) {
    if (match[0] === '"') delimiters.lastIndex = stringEnd(text, match.index);
    else depth += match[0] === "{" || match[0] === "[" ? 1 : -1;
    if (depth === 0) return delimiters.lastIndex;
  }
  return text.length;
}

/**
 * @param {string} text
 * @param {number} start the position of the opening quotation mark
 */
function stringEnd(text, start) {
  for (let quote = text.indexOf('"', start + 1); quote >= 0; quote = text.indexOf('"', quote + 1)) {
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
  }
  return text.length;
}

/**
 * @param {string} text
 * @param {number} position
 */
function skipSpace(text, position) {
  const space = /[ \t\r\n]*/y;
  space.lastIndex = position;
  space.exec(text);
  return space.lastIndex;
}
