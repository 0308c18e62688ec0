/** The service's records, as the API document describes them. */

import { members, scanValue } from "./json-scanner.js";

/** @typedef {import("./openapi.js").components["schemas"]["Job"]} Job */
/** @typedef {import("./openapi.js").components["schemas"]["Stats"]} Stats */
/** @typedef {import("./openapi.js").components["schemas"]["Queue"]} Queue */
/** @typedef {import("./openapi.js").components["schemas"]["DrainStatus"]} Drain */
/** @typedef {import("./openapi.js").components["schemas"]["History"]} History */
/** @typedef {{job_id: string, status: string, revision: number, queue: string, slate_id?: string, at?: string, created_at?: string}} JobEvent */
/** @typedef {{input_params?: string, result?: string, error_message?: string}} RawFields */
/** @typedef {{job: Job, raw: RawFields}} JobRecord */

export const STATUSES = /** @type {const} */ (["pending", "running", "completed", "failed", "cancelled"]);
const FINAL_STATUSES = new Set(["completed", "failed", "cancelled"]);
const RAW_FIELDS = new Set(["input_params", "result", "error_message"]);

/**
 * Return whether a status is final.
 * @param {string} status
 */
export function isFinal(status) {
  return FINAL_STATUSES.has(status);
}

/**
 * Parse a job. The JSON values that clients sent stay text, because a JavaScript number would lose digits.
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
  const fields = {
    queue: job.queue,
    slate_id: job.slate_id,
    scenario_count: job.scenario_count,
    correlation_id: job.correlation_id,
    max_attempts: job.max_attempts,
    retry_delay_seconds: job.retry_delay_seconds,
  };
  return `{"input_params":${raw.input_params ?? "null"},${JSON.stringify(fields).slice(1)}`;
}
