/** The service's records, as the API document describes them. */

/** @typedef {import("./openapi.js").components["schemas"]["Job"]} Job */
/** @typedef {import("./openapi.js").components["schemas"]["Stats"]} Stats */
/** @typedef {import("./openapi.js").components["schemas"]["Queue"]} Queue */
/** @typedef {import("./openapi.js").components["schemas"]["DrainStatus"]} Drain */
/** @typedef {import("./openapi.js").components["schemas"]["History"]} History */
/** An `expired` event has no revision.
 * @typedef {{job_id: string, status: string, revision?: number, queue: string, slate_id?: string, at?: string, created_at?: string}} JobEvent */

export const STATUSES = /** @type {const} */ (["pending", "running", "completed", "failed", "cancelled"]);
const FINAL_STATUSES = new Set(["completed", "failed", "cancelled"]);

/**
 * Return whether a status is final.
 * @param {string} status
 */
export function isFinal(status) {
  return FINAL_STATUSES.has(status);
}

/**
 * Return whether a job with this status can be retried.
 * @param {string} status
 */
export function isRetryable(status) {
  return status === "failed" || status === "cancelled";
}
