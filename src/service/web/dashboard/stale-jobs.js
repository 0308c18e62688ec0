/** Running jobs whose lease has run out: named, since nobody works on them. */

import { toJob } from "./router.js";
import { read } from "./api.js";
import { staleBadge } from "./components.js";
import { el, Parts, show, write } from "./dom.js";
import { timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */

/** So many running jobs are looked through, newest first, and no more often than that, in ms. */
const PAGES = 5;
const PAGE = 200;
const EVERY = 5000;
const NAMED = 20;

/** A list of the stale jobs; hidden while there is none. */
export function staleList() {
  const list = el("ul");
  const more = el("p", { class: "quiet" });
  const heading = el("h2", { id: "stale" }, staleBadge(), " Their workers were not heard of in time");
  const node = el("section", { class: "card callout", "aria-labelledby": "stale", hidden: true }, heading, list, more);
  const parts = new Parts(list, (/** @type {Job} */ job) => job.job_id, entry);
  let looked = -Infinity;
  return {
    node,
    /** @param {import("./model.js").Stats} stats */
    async update({ running }) {
      // Without a live lease are those that never had one, too: only the records tell.
      if (running.unleased > 0 && performance.now() - looked < EVERY) return;
      const found = running.unleased > 0 ? await staleJobs() : { stale: [], isAll: true };
      looked = running.unleased > 0 ? performance.now() : -Infinity;
      show(node, found.stale.length > 0);
      parts.show(found.stale.slice(0, NAMED));
      write(more, remark(found));
    },
  };
}

/** @param {Job} job */
function entry(job) {
  const since = timeElement(job.lease_expires_at ?? job.updated_at);
  const node = el(
    "li",
    {},
    el("a", { class: "id", href: toJob(job.job_id) }, job.job_id),
    el("span", {}, ` held by ${job.worker ?? "nobody"}, lease ended `, since),
  );
  return { node, update: () => {} };
}

/** @returns {Promise<{stale: Job[], isAll: boolean}>} */
async function staleJobs() {
  /** @type {Job[]} */
  const stale = [];
  let cursor = "";
  for (let page = 0; page < PAGES; page += 1) {
    const { items, next_cursor } = await read(`v1/jobs?status=running&limit=${PAGE}${cursor}`);
    stale.push(...items.filter((/** @type {Job} */ job) => job.stale));
    if (!next_cursor) return { stale, isAll: true };
    cursor = `&cursor=${encodeURIComponent(next_cursor)}`;
  }
  return { stale, isAll: false };
}

/** @param {{stale: Job[], isAll: boolean}} found */
function remark({ stale, isAll }) {
  const others = stale.length > NAMED ? `And ${(stale.length - NAMED).toLocaleString()} more. ` : "";
  return isAll ? others : `${others}Among the newest ${(PAGES * PAGE).toLocaleString()} running jobs.`;
}
