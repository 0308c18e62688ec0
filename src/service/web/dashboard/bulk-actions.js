/** The view of bulk actions: those that run, and those that have ended within a day. */

import { getJson, sendJson } from "./api.js";
import { ACTIONS, filterText, refusedCount, resultText } from "./bulk-texts.js";
import { emptyState, progressBar } from "./components.js";
import { el, fill, fillIfChanged, icon, KeyedList, setText, show } from "./dom.js";
import { Poller } from "./poller.js";
import { refusedEntries } from "./refused-jobs.js";
import { jobsHref } from "./router.js";
import { loadStyles } from "./styles.js";
import { timeElement } from "./time.js";
import { toast, withErrorToast } from "./toasts.js";

/** @typedef {import("./openapi.js").components["schemas"]["BulkAction"]} BulkAction */
/** @typedef {import("./bulk-texts.js").Action} Action */

await loadStyles("jobs.css");

/** The statuses whose colours and icons the states have. */
const LOOKS = /** @type {const} */ ({
  counting: "pending",
  running: "running",
  done: "completed",
  aborted: "cancelled",
});

/** Return the view. @param {import("./connection-status.js").ConnectionStatus} connection */
export function bulkActions(connection) {
  const list = el("ul", { class: "cards" });
  const cards = new KeyedList(
    list,
    (/** @type {BulkAction} */ action) => action.bulk_action_id,
    () => card(() => poller.now(), announce),
  );
  const how = "Filter the list of jobs and select all its rows. Then choose “Select all jobs that match”.";
  const empty = emptyState("No bulk actions", el("p", {}, how));
  const announcement = el("p", { class: "visually-hidden", role: "status" });
  show(empty, false);
  const node = el(
    "div",
    { class: "view" },
    el("nav", { "aria-label": "Breadcrumb" }, el("a", { href: jobsHref() }, "Jobs")),
    el("h1", { tabindex: -1 }, "Bulk actions"),
    el(
      "p",
      { class: "muted" },
      "Each changes all jobs that match filters. It is kept for a day after its last change.",
    ),
    announcement,
    empty,
    list,
  );
  const poller = new Poller(read, { minInterval: 1000, maxInterval: 10_000 }, () => connection.check());

  /** @param {string} text */
  function announce(text) {
    setText(announcement, text);
  }

  async function read() {
    const items = /** @type {BulkAction[]} */ ((await getJson("v1/bulk-actions")).items);
    const actions = items.filter((action) => !action.dry_run);
    cards.update(actions);
    show(empty, actions.length === 0);
    if (actions.some(isActive)) poller.soon();
  }

  return {
    node,
    title: "Bulk actions",
    show: () => poller.now(),
    refresh: () => poller.now(),
    tick: () => {},
    close: () => poller.stop(),
  };
}

/** @param {BulkAction} action */
function isActive({ state }) {
  return state !== "done" && state !== "aborted";
}

/**
 * @param {() => void} onAbort
 * @param {(text: string) => void} announce called when the action ends
 */
function card(onAbort, announce) {
  const [name, badge, matching] = [el("h2"), el("span"), el("p")];
  const [result, problem, times] = [el("p"), el("p"), el("p", { class: "muted" })];
  const refused = el("ul", { class: "refused" });
  const progress = progressBar("Progress");
  const abort = el("button", { type: "button", class: "small" }, "Abort");
  let wasActive = false;
  const node = el(
    "li",
    { class: "card bulk-action" },
    el("header", {}, name, badge, abort),
    ...[matching, progress.node, result, problem, refused, times],
  );
  return {
    node,
    /** @param {BulkAction} action */
    update(action) {
      const active = isActive(action);
      const title = ACTIONS[/** @type {Action} */ (action.action)]?.name ?? action.action;
      setText(name, title);
      fillIfChanged(badge, stateBadge(action.state));
      fillIfChanged(matching, "Jobs that match ", filterLink(action.filter));
      progress.update(progressOf(action));
      setText(result, action.state === "counting" ? "Counting the jobs that match…" : `${resultText(action)}.`);
      setText(problem, action.problem?.detail ?? "");
      show(problem, action.problem);
      fillIfChanged(refused, ...refusedEntries(action));
      if (active !== wasActive || !times.firstChild) fill(times, ...timesOf(action));
      show(abort, active);
      abort.onclick = () => abortAction(action, onAbort);
      if (wasActive && !active) announce(`${title} ${action.state}: ${resultText(action)}.`);
      wasActive = active;
    },
  };
}

/** @param {BulkAction} action */
function progressOf({ state, matched, done, refused }) {
  return state === "counting" ? { current: matched } : { current: done + refusedCount(refused), total: matched };
}

/** @param {string} state */
function stateBadge(state) {
  const look = LOOKS[/** @type {keyof typeof LOOKS} */ (state)];
  return el("span", { class: `badge ${look ?? ""}` }, look && icon(look), state);
}

/** Return the filters, with a link to the list, which cannot filter by time. @param {BulkAction["filter"]} filter */
function filterLink(filter) {
  const text = filterText(filter);
  if (filter.created_after || filter.created_before) return text;
  return el("a", { href: jobsHref(filter) }, text);
}

/** @param {BulkAction} action */
function timesOf({ created_at, finished_at, by }) {
  const end = finished_at ? [", ended ", timeElement(finished_at)] : [];
  return ["Started ", timeElement(created_at), by && ` by ${by}`, ...end, "."];
}

/** @param {BulkAction} action @param {() => void} onAbort */
async function abortAction({ bulk_action_id }, onAbort) {
  await withErrorToast(async () => {
    await sendJson("DELETE", `v1/bulk-actions/${bulk_action_id}`);
    toast("Bulk action aborted.");
    onAbort();
  });
}
