/** The table of queues, with buttons to pause and limit each. */

import { sendJson } from "./api.js";
import { openDialog } from "./dialog.js";
import { el, fill, KeyedList, setText, show } from "./dom.js";
import { jobsHref } from "./router.js";
import { duration, twoUnits } from "./time.js";
import { toast, withErrorToast } from "./toasts.js";

/** @typedef {import("./model.js").Queue} Queue */
/** @typedef {{paused: boolean} | {max_running: number | null}} QueueSettings */

const MAX_LIMIT = 1_000_000;
/** The statuses with a column. */
const STATUS_COLUMNS = ["pending", "running", "completed", "failed"];
const COLUMNS = [
  ["Queue", ""],
  ["Pending", "number"],
  ["Running", "number"],
  ["Completed", "number wide"],
  ["Failed", "number wide"],
  ["Demand", "number wide"],
  ["Due for", "number"],
  ["Controls", ""],
];

/**
 * Return the table.
 * @param {() => void} onChange called after a queue was changed here
 */
export function queueTable(onChange) {
  const body = el("tbody");
  const rows = new KeyedList(
    body,
    (/** @type {Queue} */ queue) => queue.queue,
    (queue) => row(queue, onChange),
  );
  const headings = COLUMNS.map(([name, kind]) =>
    el(
      "th",
      { scope: "col", class: kind },
      name === "Controls" ? el("span", { class: "visually-hidden" }, name) : name,
    ),
  );
  const table = el("table", { class: "queues" }, el("thead", {}, el("tr", {}, ...headings)), body);
  const empty = el("p", { class: "muted" }, "No queues yet. The first job of a queue creates it.");
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "queues" },
    el("h2", { id: "queues" }, "Queues"),
    empty,
    table,
  );
  return {
    node,
    /** @param {Queue[]} queues */
    update(queues) {
      show(empty, queues.length === 0);
      show(table, queues.length > 0);
      rows.update(queues);
    },
  };
}

/**
 * @param {Queue} initial
 * @param {() => void} onChange
 */
function row(initial, onChange) {
  let queue = initial;
  const name = queue.queue;
  const paused = el("span", { class: "badge paused" }, "paused");
  const links = STATUS_COLUMNS.map((status) => el("a", { class: "plain", href: jobsHref({ queue: name, status }) }));
  const maxRunning = el("span", { class: "muted" });
  const [demand, age] = [el("td", { class: "number wide" }), el("td", { class: "number" })];
  const retention = el("div", { class: "muted retention" });
  const change = (/** @type {QueueSettings} */ settings, /** @type {string} */ message) =>
    withErrorToast(async () => {
      await sendJson("PUT", `v1/queues/${encodeURIComponent(name)}`, settings);
      toast(message);
      onChange();
    });
  const toggle = el("button", {
    type: "button",
    class: "small",
    click: () => change({ paused: !queue.paused }, `Queue ${name} ${queue.paused ? "resumed" : "paused"}.`),
  });
  const limit = el(
    "button",
    { type: "button", class: "small", click: () => promptForLimit(queue, change) },
    "Limit…",
    el("span", { class: "visually-hidden" }, ` ${name}`),
  );
  const node = el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", { class: "id", href: jobsHref({ queue: name }) }, name), " ", paused),
    ...links.map((link, index) =>
      el("td", { class: COLUMNS[index + 1]?.[1] }, link, STATUS_COLUMNS[index] === "running" && maxRunning),
    ),
    demand,
    age,
    el("td", { class: "actions" }, toggle, limit, retention),
  );
  return {
    node,
    /** @param {Queue} current */
    update(current) {
      queue = current;
      for (const [index, link] of links.entries())
        setText(link, (current.statuses[STATUS_COLUMNS[index] ?? ""] ?? 0).toLocaleString());
      setText(maxRunning, current.max_running ? ` of ${current.max_running.toLocaleString()}` : "");
      setText(demand, current.demand.toLocaleString());
      setText(age, twoUnits(current.oldest_due_seconds));
      setText(retention, retentionText(current));
      show(paused, current.paused);
      fill(toggle, current.paused ? "Resume" : "Pause", el("span", { class: "visually-hidden" }, ` ${name}`));
    },
  };
}

/** Return how long its ended jobs are kept, if that is set. @param {Queue} queue */
function retentionText({ retention_seconds = {} }) {
  const kept = Object.entries(retention_seconds).map(([status, seconds]) => `${status} ${duration(seconds * 1000)}`);
  return kept.length > 0 ? `Kept after the end: ${kept.join(", ")}` : "";
}

/**
 * @param {Queue} queue
 * @param {(settings: QueueSettings, message: string) => void} change
 */
async function promptForLimit({ queue, max_running }, change) {
  const result = await openDialog({
    title: `Limit ${queue}`,
    text: "Workers cannot claim more jobs of this queue while this many are running.",
    action: "Set limit",
    field: {
      label: "Max running",
      type: "number",
      value: String(max_running ?? ""),
      min: 1,
      max: MAX_LIMIT,
      required: true,
    },
    ...(max_running ? { secondaryAction: "Remove limit" } : {}),
  });
  if (result?.action === "secondary") change({ max_running: null }, `Limit of queue ${queue} removed.`);
  else if (result) change({ max_running: Number(result.value) }, `Queue ${queue} limited to ${result.value} running.`);
}
