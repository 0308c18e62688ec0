/** The fields of a job as a list of labels and values. */

import { el, fillIfChanged, KeyedList } from "./dom.js";
import { isFinal } from "./model.js";
import { jobsHref } from "./router.js";
import { duration, timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./dom.js").Child} Child */

/** Return the list. Fields without a value are left out. */
export function jobDetails() {
  const node = el("dl", { class: "details card" });
  const list = new KeyedList(node, (/** @type {[string, Child]} */ [label]) => label, entry);
  return {
    node,
    /** @param {Job} job */
    update: (job) => list.update(fieldsOf(job).filter(([, value]) => value)),
  };
}

/** @param {[string, Child]} field */
function entry([label]) {
  const description = el("dd");
  return {
    node: el("div", {}, el("dt", {}, label), description),
    /** @param {[string, Child]} field */
    update: ([, value]) => fillIfChanged(description, value),
  };
}

/**
 * @param {Job} job
 * @returns {[string, Child][]}
 */
function fieldsOf(job) {
  return [
    ["Queue", el("a", { class: "id", href: jobsHref({ queue: job.queue }) }, job.queue)],
    ["Slate", job.slate_id && el("a", { href: jobsHref({ slate_id: job.slate_id }) }, job.slate_id)],
    ["Scenarios", job.scenario_count?.toLocaleString()],
    [
      "Correlation ID",
      job.correlation_id &&
        el("a", { class: "id", href: jobsHref({ correlation_id: job.correlation_id }) }, job.correlation_id),
    ],
    ["Attempts", attemptsText(job)],
    ["Worker", job.worker],
    ["Lease expires", leaseValue(job)],
    ["Cancel requested", timeAgo(job.cancel_requested_at)],
    ["Available", job.status === "pending" && job.available_at && timeElement(job.available_at, "left")],
    ["Created", timeAgo(job.created_at)],
    ["Started", timeAgo(job.started_at)],
    ["Finished", timeAgo(job.finished_at)],
    ["Duration", durationText(job)],
    ["Updated", timeAgo(job.updated_at)],
    ["Expires", timeElement(job.expires_at, "left")],
    ["Trace", job.traceparent && el("code", {}, job.traceparent)],
  ];
}

/** @param {Job} job */
function attemptsText({ attempt, failures, max_attempts, retry_delay_seconds }) {
  const failed = failures ? `, ${failures} failed` : "";
  const retries = max_attempts > 1 ? ` (max ${max_attempts} failures, retry after ${retry_delay_seconds} s)` : "";
  return `${attempt}${failed}${retries}`;
}

/** @param {Job} job */
function leaseValue({ status, stale, lease_expires_at, lease_seconds }) {
  if (status !== "running") return null;
  if (!lease_expires_at) return "no lease";
  if (stale) return el("strong", { class: "warning" }, "expired ", timeElement(lease_expires_at));
  return el(
    "span",
    { class: "number" },
    timeElement(lease_expires_at, "left"),
    lease_seconds ? el("span", { class: "muted" }, ` of ${duration(lease_seconds * 1000)}`) : null,
  );
}

/** @param {Job} job */
function durationText({ status, created_at, started_at, finished_at }) {
  if (!isFinal(status) || !finished_at) return null;
  const total = duration(Date.parse(finished_at) - Date.parse(created_at));
  return started_at ? `${total}, ${duration(Date.parse(finished_at) - Date.parse(started_at))} running` : total;
}

/** @param {string | undefined} time */
function timeAgo(time) {
  return time ? timeElement(time) : null;
}
