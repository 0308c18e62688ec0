/** Changes many jobs: selected ones by a request for each, all that match the filters by a bulk action. */

import { getJson, jobPath, newIdempotencyKey, Problem, request, sendJson } from "./api.js";
import { ACTIONS, filterText, jobCount, resultText } from "./bulk-texts.js";
import { openDialog } from "./dialog.js";
import { MAX_EXAMPLES, showRefused } from "./refused-jobs.js";
import { toast } from "./toasts.js";

/** @typedef {import("./bulk-texts.js").Action} Action */
/** @typedef {import("./filters.js").Filters} Filters */
/** @typedef {import("./refused-jobs.js").RefusedJob} RefusedJob */
/** @typedef {import("./openapi.js").components["schemas"]["BulkAction"]} BulkAction */
/** @typedef {(text: string, progress: {current: number, total?: number}) => void} OnProgress */
/** @typedef {{signal: AbortSignal, onProgress: OnProgress, onEnd: () => void}} Control */
/** @typedef {{done: string[], refused: RefusedJob[], error: unknown}} Result */

/** Requests at a time. A browser has six connections per host, for all tabs. */
const CONCURRENCY = 3;
/** The ms between two reads of a count. */
const COUNT_INTERVAL = 300;
/** Statuses of a problem that concerns one job only. After any other no more requests are sent. */
const REFUSALS = new Set([404, 409]);
const REQUESTS = /** @type {const} */ ({
  cancel: ["POST", "/cancel"],
  retry: ["POST", "/retry"],
  delete: ["DELETE", ""],
});

/**
 * Change selected jobs and show the result. Returns the ids of the jobs that were changed or refused.
 * @param {Action} action
 * @param {string[]} ids
 * @param {Control} control
 */
export async function changeSelected(action, ids, control) {
  const { isDestructive } = ACTIONS[action];
  if (isDestructive && !(await confirm(action, ids.length, ""))) return [];
  const result = await sendAll(action, ids, control);
  control.onEnd();
  await showResult(action, ids.length, result);
  return [...result.done, ...result.refused.map(({ job_id }) => job_id)];
}

/** @param {Action} action @param {string[]} ids @param {Control} control @returns {Promise<Result>} */
async function sendAll(action, ids, { signal, onProgress }) {
  /** @type {Result} */
  const result = { done: [], refused: [], error: null };
  const waiting = [...ids];
  const report = () => {
    onProgress(ACTIONS[action].name, { current: result.done.length + result.refused.length, total: ids.length });
  };
  const sendNext = async () => {
    for (let id; !result.error && !signal.aborted && (id = waiting.shift()) !== undefined; report())
      await sendOne(action, id, result);
  };
  report();
  await Promise.all(Array.from({ length: CONCURRENCY }, sendNext));
  return result;
}

/** @param {Action} action @param {string} id @param {Result} result */
async function sendOne(action, id, result) {
  const [method, suffix] = REQUESTS[action];
  try {
    await request(method, jobPath(id, suffix), { headers: { "Idempotency-Key": newIdempotencyKey() } });
    result.done.push(id);
  } catch (error) {
    if (error instanceof Problem && REFUSALS.has(error.status)) result.refused.push({ job_id: id, type: error.type });
    else result.error ??= error;
  }
}

/** @param {Action} action @param {number} matched @param {Result} result */
async function showResult(action, matched, { done, refused, error }) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const { type } of refused) counts[type] = (counts[type] ?? 0) + 1;
  const text = `${ACTIONS[action].name}: ${resultText({ matched, done: done.length, refused: counts })}`;
  if (error) toast(`${text}. ${error instanceof Error ? error.message : error}`, true);
  else if (refused.length === 0) toast(`${text}.`);
  if (refused.length > 0) await showRefused(text, { refused: counts, examples: refused.slice(0, MAX_EXAMPLES) });
}

/**
 * Count the jobs that match, ask for a confirmation, start a bulk action and go to the view that follows it.
 * @param {Action} action
 * @param {Filters} filters
 * @param {Control} control
 */
export async function changeMatching(action, filters, control) {
  const filter = Object.fromEntries(Object.entries(filters).filter(([, value]) => value.length > 0));
  const matched = await countMatching({ action, filter }, control);
  control.onEnd();
  if (matched === 0) toast("No job matches.");
  if (!matched || !(await confirm(action, matched, filterText(filter)))) return;
  await start({ action, filter });
  location.hash = "#/bulk-actions";
}

/**
 * Return how many jobs match; null if the count was stopped.
 * @param {object} body
 * @param {Control} control
 */
async function countMatching(body, { signal, onProgress }) {
  let run = await start({ ...body, dry_run: true });
  while (run.state === "counting") {
    onProgress("Counting the jobs that match…", { current: run.matched });
    await new Promise((resolve) => setTimeout(resolve, COUNT_INTERVAL));
    const path = `v1/bulk-actions/${run.bulk_action_id}`;
    run = await (signal.aborted ? sendJson("DELETE", path) : getJson(path));
  }
  return signal.aborted ? null : run.matched;
}

/** @param {object} body @returns {Promise<BulkAction>} */
async function start(body) {
  const headers = { "Idempotency-Key": newIdempotencyKey() };
  return JSON.parse((await request("POST", "v1/bulk-actions", { body: JSON.stringify(body), headers })).text);
}

/** @param {Action} action @param {number} count @param {string} filters empty for selected jobs */
function confirm(action, count, filters) {
  const { name, text, isDestructive } = ACTIONS[action];
  const title = `${name} ${jobCount(count)}${filters && ` that match ${filters}`}?`;
  return openDialog({ title, text, action: `${name} ${jobCount(count)}`, isDestructive });
}
