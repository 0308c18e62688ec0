/** The list of running jobs whose lease has expired. */

import { getJson } from "./api.js";
import { staleBadge } from "./components.js";
import { el, KeyedList, setText, show } from "./dom.js";
import { jobHref } from "./router.js";
import { timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */

/** Pages of running jobs that are checked, newest first. */
const MAX_PAGES = 5;
const PAGE_SIZE = 200;
/** The minimum time between two checks, in ms. */
const MIN_INTERVAL = 5000;
const MAX_LISTED = 20;

/** Return the card with the stale jobs. It is hidden while there are none. */
export function staleJobs() {
  const list = el("ul");
  const note = el("p", { class: "muted" });
  const heading = el("h2", { id: "stale" }, staleBadge(), " Jobs with expired leases");
  const node = el("section", { class: "card callout", "aria-labelledby": "stale", hidden: true }, heading, list, note);
  const entries = new KeyedList(list, (/** @type {Job} */ job) => job.job_id, entry);
  let lastCheck = -Infinity;
  return {
    node,
    /** @param {import("./model.js").Stats} stats */
    async update({ running }) {
      // `unleased` also counts jobs that never had a lease. Only the records tell them apart.
      if (running.unleased > 0 && performance.now() - lastCheck < MIN_INTERVAL) return;
      const result = running.unleased > 0 ? await findStale() : { stale: [], isComplete: true };
      lastCheck = running.unleased > 0 ? performance.now() : -Infinity;
      show(node, result.stale.length > 0);
      entries.update(result.stale.slice(0, MAX_LISTED));
      setText(note, noteText(result));
    },
  };
}

/** @param {Job} job */
function entry(job) {
  const expired = timeElement(job.lease_expires_at ?? job.updated_at);
  const node = el(
    "li",
    {},
    el("a", { class: "id", href: jobHref(job.job_id) }, job.job_id),
    el("span", {}, ` held by ${job.worker ?? "an unnamed worker"}, lease expired `, expired),
  );
  return { node, update: () => {} };
}

/** @returns {Promise<{stale: Job[], isComplete: boolean}>} */
async function findStale() {
  /** @type {Job[]} */
  const stale = [];
  let cursor = "";
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const { items, next_cursor } = await getJson(`v1/jobs?status=running&limit=${PAGE_SIZE}${cursor}`);
    stale.push(...items.filter((/** @type {Job} */ job) => job.stale));
    if (!next_cursor) return { stale, isComplete: true };
    cursor = `&cursor=${encodeURIComponent(next_cursor)}`;
  }
  return { stale, isComplete: false };
}

/** @param {{stale: Job[], isComplete: boolean}} result */
function noteText({ stale, isComplete }) {
  const others = stale.length > MAX_LISTED ? `And ${(stale.length - MAX_LISTED).toLocaleString()} more. ` : "";
  if (isComplete) return others;
  return `${others}Only the newest ${(MAX_PAGES * PAGE_SIZE).toLocaleString()} running jobs were checked.`;
}
