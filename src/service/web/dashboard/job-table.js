/** The rows of the list. */

import { toJob, toJobs } from "./router.js";
import { badge, bar, staleBadge } from "./components.js";
import { el, fill, Parts, setAttribute, write } from "./dom.js";
import { tell, timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {{job: Job, fate: "" | "deleted" | "expired", fits: boolean}} Row */

const HEADS = [
  ["Status", ""],
  ["Job", ""],
  ["Queue", "wide"],
  ["Slate", "wide"],
  ["How it is", "wide"],
  ["Created", ""],
];
const SHOWN_ERROR = 160;

/** The table of jobs. */
export function jobTable() {
  const body = el("tbody");
  const parts = new Parts(body, (/** @type {Row} */ { job }) => job.job_id, row);
  const heads = HEADS.map(([name, kind]) => el("th", { scope: "col", class: kind }, name));
  const caption = el("caption", { class: "unseen" }, "Jobs, newest first");
  const node = el("table", { class: "jobs" }, caption, el("thead", {}, el("tr", {}, ...heads)), body);
  return {
    node,
    /** @param {Iterable<Row>} rows */
    update: (rows) => parts.show(rows),
  };
}

/** @param {Row} first */
function row({ job }) {
  const status = el("td");
  const details = el("div", { class: "narrow quiet" });
  const state = el("td", { class: "wide state" });
  const progress = bar(`Progress of ${job.job_id}`);
  const words = el("span", { class: "quiet" });
  state.append(progress.node, words);
  const created = timeElement(job.created_at);
  const node = el(
    "tr",
    {},
    status,
    el("th", { scope: "row" }, el("a", { class: "id", href: toJob(job.job_id) }, job.job_id), details),
    el("td", { class: "wide" }, el("a", { class: "id plain", href: toJobs({ queue: job.queue }) }, job.queue)),
    el(
      "td",
      { class: "wide" },
      job.slate_id ? el("a", { class: "plain", href: toJobs({ slate_id: job.slate_id }) }, job.slate_id) : "",
    ),
    state,
    el("td", { class: "when" }, created),
  );
  return {
    node,
    /** @param {Row} now */
    update({ job: now, fate, fits }) {
      const marks = fate
        ? [el("span", { class: "badge" }, fate)]
        : [badge(now.status), now.stale ? staleBadge() : null];
      setAttribute(node, "class", fate || !fits ? "left" : "");
      if (status.textContent !== marks.map((one) => one?.textContent ?? "").join("")) fill(status, ...marks);
      progress.update(now.status === "running" && !fate ? now.progress : undefined);
      write(words, wordsFor(now));
      write(details, [now.queue, now.slate_id, shareOf(now)].filter(Boolean).join(" · "));
      if (created.dateTime !== now.created_at) tell(created, now.created_at);
    },
  };
}

/** @param {Job} job */
function wordsFor(job) {
  if (job.status === "running") return [job.progress?.message, job.worker].filter(Boolean).join(" · ");
  if (job.error_message !== undefined) return errorOf(job.error_message);
  if (job.failures) return `${job.failures} of ${job.max_attempts} attempts failed`;
  return "";
}

/** @param {unknown} error */
function errorOf(error) {
  const told = error !== null && typeof error === "object" ? /** @type {Record<string, unknown>} */ (error) : {};
  const words = told.detail ?? told.message ?? error;
  const text = typeof words === "string" ? words : JSON.stringify(words);
  return text.length > SHOWN_ERROR ? `${text.slice(0, SHOWN_ERROR)}…` : text;
}

/** @param {Job} job */
function shareOf({ status, progress }) {
  if (status !== "running" || !progress?.total) return "";
  return `${Math.floor(Math.min(progress.current / progress.total, 1) * 100)}%`;
}
