/** A job with the JSON values that clients sent, kept as text. */

import { members, scanValue } from "./json-scanner.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {{input_params?: string, result?: string, error_message?: string}} RawFields */
/** @typedef {{job: Job, raw: RawFields}} JobRecord */

const RAW_FIELDS = new Set(["input_params", "result", "error_message"]);
/** The fields of a record that a request may set; the service writes them into the page. */
const CREATION_FIELDS = (document.body.dataset.creationFields ?? "").split(" ");

/**
 * Parse a job. JSON values stay text, because a JavaScript number would lose digits.
 * @param {string} text
 * @returns {JobRecord}
 */
export function parseRecord(text) {
  /** @type {Record<string, string>} */
  const raw = {};
  const rest = [];
  for (const { key, value } of members(text, scanValue(text, 0))) {
    const slice = text.slice(value.start, value.end);
    if (RAW_FIELDS.has(key ?? "")) raw[String(key)] = slice;
    else rest.push(`${JSON.stringify(key)}:${slice}`);
  }
  return { job: JSON.parse(`{${rest.join()}}`), raw };
}

/**
 * Return the body of a request that creates a job with the same fields. `input_params` is sent unchanged.
 * @param {JobRecord} record
 */
export function createBody({ job, raw }) {
  /** @type {Record<string, unknown>} */
  const values = job;
  const fields = Object.fromEntries(CREATION_FIELDS.map((name) => [name, values[name]]));
  return `{"input_params":${raw.input_params ?? "null"},${JSON.stringify(fields).slice(1)}`;
}
