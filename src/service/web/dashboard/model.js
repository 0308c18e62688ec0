/** What the service's records are, as its API document says, and what of them must not pass through JavaScript's numbers. */

import { members, spanOf } from "./json-scanner.js";

/** @typedef {import("./document.js").components["schemas"]["Job"]} Job */
/** @typedef {import("./document.js").components["schemas"]["Stats"]} Stats */
/** @typedef {import("./document.js").components["schemas"]["Queue"]} Queue */
/** @typedef {import("./document.js").components["schemas"]["Drain"]} Drain */
/** @typedef {import("./document.js").components["schemas"]["History"]} History */
/** @typedef {{job_id: string, status: string, revision: number, queue: string, slate_id?: string, at?: string, created_at?: string}} JobEvent */
/** @typedef {{input_params?: string, result?: string, error_message?: string}} Texts */

export const STATUSES = /** @type {const} */ (["pending", "running", "completed", "failed", "cancelled"]);
const FINAL = new Set(["completed", "failed", "cancelled"]);
const AS_SENT = new Set(["input_params", "result", "error_message"]);

/**
 * Whether nothing follows a status.
 * @param {string} status
 */
export function isFinal(status) {
  return FINAL.has(status);
}

/**
 * Read a record: what clients sent as JSON of their own stays the text that it is, so that its numbers stay what they are.
 * @param {string} text
 * @returns {{job: Job, texts: Texts}}
 */
export function recordOf(text) {
  /** @type {Record<string, string>} */
  const texts = {};
  const rest = [];
  for (const { key, value } of members(text, spanOf(text, 0))) {
    const slice = text.slice(value.start, value.end);
    if (AS_SENT.has(key ?? "")) texts[String(key)] = slice;
    else rest.push(`${JSON.stringify(key)}:${slice}`);
  }
  return { job: JSON.parse(`{${rest.join()}}`), texts };
}

/**
 * How far a job has come, from 0 to 1; null where nobody said of what.
 * @param {Job} job
 */
export function shareDone({ progress }) {
  return progress?.total ? Math.min(progress.current / progress.total, 1) : null;
}

/**
 * The text of a request for a job with the same fields: what was sent as JSON goes along as it is.
 * @param {Job} job
 * @param {Texts} texts
 */
export function creationOf(job, texts) {
  const same = {
    queue: job.queue,
    slate_id: job.slate_id,
    scenario_count: job.scenario_count,
    correlation_id: job.correlation_id,
    max_attempts: job.max_attempts,
    retry_delay_seconds: job.retry_delay_seconds,
  };
  return `{"input_params":${texts.input_params ?? "null"},${JSON.stringify(same).slice(1)}`;
}
