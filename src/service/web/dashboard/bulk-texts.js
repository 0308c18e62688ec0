/** Texts about actions on many jobs. */

/** @typedef {import("./openapi.js").components["schemas"]["BulkKind"]} Action */
/** @typedef {{matched: number, done: number, refused: Record<string, number>}} Counts */

/** By action: the name, what it does, and whether it is confirmed in a dialog that warns. */
export const ACTIONS = /** @type {const} */ ({
  cancel: {
    name: "Cancel",
    text: "Workers that hold jobs are asked to stop, but they may still complete them. Other jobs are cancelled now.",
    isDestructive: true,
  },
  retry: { name: "Retry", text: "Failed and cancelled jobs become pending again.", isDestructive: false },
  delete: {
    name: "Delete",
    text: "Deleted jobs cannot be restored. Only finished jobs are deleted.",
    isDestructive: true,
  },
});

const FILTERS = {
  status: "status",
  queue: "queue",
  slate_id: "slate",
  correlation_id: "correlation ID",
  label: "label",
  created_after: "created after",
  created_before: "created before",
};

/** The titles that a problem's type does not spell. */
const TITLES = new Map([
  ["job-not-final", "Job not finished"],
  ["store-corrupt", "Unexpected job store data"],
]);

/** Return a number of jobs, such as `1,234 jobs`. @param {number} count */
export function jobCount(count) {
  return `${count.toLocaleString()} ${count === 1 ? "job" : "jobs"}`;
}

/** Return filters as text, such as `status failed, queue lineups`. @param {Record<string, string | string[]>} filters */
export function filterText(filters) {
  return Object.entries(FILTERS)
    .flatMap(([name, text]) => [filters[name] ?? ""].flat().map((value) => value && `${text} ${value}`))
    .filter(Boolean)
    .join(", ");
}

/** Return the title of a problem. @param {string} type */
export function problemTitle(type) {
  const name = type.replace(/.*:/, "");
  return TITLES.get(name) ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("-", " ");
}

/** Return how many jobs were refused. @param {Counts["refused"]} refused */
export function refusedCount(refused) {
  return Object.values(refused).reduce((sum, count) => sum + count, 0);
}

/** Return the result, such as `97 of 100 done, 3 refused`. @param {Counts} counts */
export function resultText({ matched, done, refused }) {
  return [
    `${done.toLocaleString()} of ${matched.toLocaleString()} done`,
    refusedCount(refused) > 0 && `${refusedCount(refused).toLocaleString()} refused`,
  ]
    .filter(Boolean)
    .join(", ");
}
