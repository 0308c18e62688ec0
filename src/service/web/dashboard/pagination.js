/** Pages of the list of jobs. A cursor leads to each page, so that every page has an address. */

import { getJson } from "./api.js";
import { buildQuery } from "./router.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./filters.js").Filters} Filters */
/** @typedef {{jobs: Job[], next: string | null, total: number | null}} Page */

export const PAGE_SIZE = 100;
/** Filters can leave a page of the service short. This many requests are sent to fill one page. */
const MAX_REQUESTS = 10;

/**
 * Return a page of jobs. `total` is null where the service does not count the matches.
 * @param {Filters} filters
 * @param {string} cursor empty for the newest jobs
 * @returns {Promise<Page>}
 */
export async function readPage(filters, cursor) {
  const total = countJobs(filters);
  /** @type {Job[]} */
  const jobs = [];
  let next = cursor;
  for (let requests = 0; requests < MAX_REQUESTS; requests += 1) {
    const limit = String(PAGE_SIZE - jobs.length);
    const page = await getJson(`v1/jobs?${buildQuery({ ...filters, limit, cursor: next })}`);
    jobs.push(...page.items);
    next = page.next_cursor ?? "";
    if (!next || jobs.length >= PAGE_SIZE) break;
  }
  return { jobs, next: next || null, total: await total };
}

/**
 * @param {Filters} filters
 * @returns {Promise<number | null>}
 */
async function countJobs({ status, queue, slate_id, correlation_id, label }) {
  if (slate_id || correlation_id || label.length > 0) return null;
  const stats = await getJson("v1/stats").catch(() => null);
  if (!stats) return null;
  const counts = queue ? (stats.queues[queue] ?? {}) : stats.statuses;
  if (status) return counts[status] ?? 0;
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/**
 * Return how many jobs a page shows, and of how many.
 * @param {number} shown
 * @param {number | null} total
 */
export function countText(shown, total) {
  if (total === null || total <= shown) return shown === 1 ? "1 job" : `${shown.toLocaleString()} jobs`;
  return `${shown.toLocaleString()} of ${total.toLocaleString()} jobs, newest first`;
}
