/** Pages of the list, however long it is: a cursor leads to each, so that any of them has an address. */

import { queryOf } from "./router.js";
import { read } from "./api.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./filters.js").Filters} Filters */
/** @typedef {{jobs: Job[], next: string | null, total: number | null}} Page */

export const ROWS = 100;
/** A page of the service may be short where filters find little: so often it is asked to look on. */
const LOOKS = 10;

/**
 * Read a page, and how many jobs there are where the service counts them.
 * @param {Filters} filters
 * @param {string} from a cursor, or nothing for the newest
 * @returns {Promise<Page>}
 */
export async function readPage(filters, from) {
  const counted = total(filters);
  /** @type {Job[]} */
  const jobs = [];
  let next = from;
  for (let look = 0; look < LOOKS; look += 1) {
    const page = await read(`v1/jobs?${queryOf({ ...filters, limit: String(ROWS - jobs.length), cursor: next })}`);
    jobs.push(...page.items);
    next = page.next_cursor ?? "";
    if (!next || jobs.length >= ROWS) break;
  }
  return { jobs, next: next || null, total: await counted };
}

/**
 * @param {Filters} filters
 * @returns {Promise<number | null>}
 */
async function total({ status, queue, slate_id, correlation_id }) {
  if (slate_id || correlation_id) return null;
  const stats = await read("v1/stats").catch(() => null);
  if (!stats) return null;
  const counts = queue ? (stats.queues[queue] ?? {}) : stats.statuses;
  if (status) return counts[status] ?? 0;
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
