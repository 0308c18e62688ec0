/** The table of the list of jobs. */

import { labelList, progressBar, staleBadge, statusBadge } from "./components.js";
import { el, fill, KeyedList, setAttribute, setText } from "./dom.js";
import { jobHref, jobsHref } from "./router.js";
import { setTime, timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {{job: Job, removal: "" | "deleted" | "expired", matches: boolean}} Row */

const COLUMNS = [
  ["Status", ""],
  ["Job", ""],
  ["Queue", "wide"],
  ["Slate", "wide"],
  ["Details", "wide"],
  ["Created", ""],
];
const MAX_ERROR_LENGTH = 160;

/** Return the table. */
export function jobTable() {
  const body = el("tbody");
  const list = new KeyedList(body, (/** @type {Row} */ { job }) => job.job_id, row);
  const all = el(
    "td",
    { class: "select" },
    el("label", {}, el("input", { type: "checkbox", "aria-label": "Select all rows" })),
  );
  const headings = COLUMNS.map(([name, kind]) => el("th", { scope: "col", class: kind }, name));
  const caption = el("caption", { class: "visually-hidden" }, "Jobs, newest first");
  const node = el("table", { class: "jobs" }, caption, el("thead", {}, el("tr", {}, all, ...headings)), body);
  return {
    node,
    /** @param {Iterable<Row>} rows */
    update: (rows) => list.update(rows),
  };
}

/** @param {Row} row */
function row({ job }) {
  const box = el("input", { type: "checkbox", value: job.job_id, "aria-label": `Select ${job.job_id}` });
  const status = el("td");
  /** What narrow screens show in place of three columns. */
  const summary = el("div", { class: "narrow muted" });
  const details = el("td", { class: "wide state" });
  const progress = progressBar(`Progress of ${job.job_id}`);
  const text = el("span", { class: "muted" });
  details.append(progress.node, text, labelList(job.labels) ?? "");
  const created = timeElement(job.created_at);
  const node = el(
    "tr",
    {},
    el("td", { class: "select" }, el("label", {}, box)),
    status,
    el("th", { scope: "row" }, el("a", { class: "id", href: jobHref(job.job_id) }, job.job_id), summary),
    el("td", { class: "wide" }, el("a", { class: "id plain", href: jobsHref({ queue: job.queue }) }, job.queue)),
    el(
      "td",
      { class: "wide" },
      job.slate_id ? el("a", { class: "plain", href: jobsHref({ slate_id: job.slate_id }) }, job.slate_id) : "",
    ),
    details,
    el("td", { class: "when" }, created),
  );
  return {
    node,
    /** @param {Row} row */
    update({ job: current, removal, matches }) {
      const badges = removal
        ? [el("span", { class: "badge" }, removal)]
        : [statusBadge(current.status), current.stale ? staleBadge() : null];
      if (removal) box.checked = false;
      box.disabled = removal !== "";
      setAttribute(node, "class", removal || !matches ? "outdated" : "");
      if (status.textContent !== badges.map((badge) => badge?.textContent ?? "").join("")) fill(status, ...badges);
      progress.update(current.status === "running" && !removal ? current.progress : undefined);
      setText(text, detailsText(current));
      setText(summary, [current.queue, current.slate_id, percentText(current)].filter(Boolean).join(" · "));
      if (created.dateTime !== current.created_at) setTime(created, current.created_at);
    },
  };
}

/** @param {Job} job */
function detailsText(job) {
  if (job.status === "running") return [job.progress?.message, job.worker].filter(Boolean).join(" · ");
  if (job.error_message !== undefined) return errorText(job.error_message);
  if (job.failures) return `${job.failures} of ${job.max_attempts} attempts failed`;
  return "";
}

/** @param {unknown} error */
function errorText(error) {
  const fields = error !== null && typeof error === "object" ? /** @type {Record<string, unknown>} */ (error) : {};
  const message = fields.detail ?? fields.message ?? error;
  const text = typeof message === "string" ? message : JSON.stringify(message);
  return text.length > MAX_ERROR_LENGTH ? `${text.slice(0, MAX_ERROR_LENGTH)}…` : text;
}

/** @param {Job} job */
function percentText({ status, progress }) {
  if (status !== "running" || !progress?.total) return "";
  return `${Math.floor(Math.min(progress.current / progress.total, 1) * 100)}%`;
}
