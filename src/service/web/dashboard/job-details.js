/** The fields of a job as a list of labels and values. */

import { labelList } from "./components.js";
import { el, fillIfChanged, KeyedList } from "./dom.js";
import { isFinal } from "./model.js";
import { jobsHref } from "./router.js";
import { duration, timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./dom.js").Child} Child */

/** A field of the record, its label and its value. @typedef {[string, string, Child]} Field */

/** Fields that the page shows elsewhere, or as part of another field. */
const SHOWN_ELSEWHERE = [
  ...["job_id", "status", "stale", "revision", "progress"],
  ...["failures", "max_attempts", "retry_delay_seconds", "lease_seconds"],
  ...["start_timeout_seconds", "run_timeout_seconds"],
];

/** Return the list. Fields without a value are left out. */
export function jobDetails() {
  const node = el("dl", { class: "details card" });
  const list = new KeyedList(node, (/** @type {Field} */ [name]) => name, entry);
  return {
    node,
    /** @param {Job} job */
    update(job) {
      const fields = fieldsOf(job);
      list.update([...fields, ...otherFields(job, fields)].filter(([, , value]) => value));
    },
  };
}

/** @param {Field} field */
function entry([, label]) {
  const description = el("dd");
  return {
    node: el("div", {}, el("dt", {}, label), description),
    /** @param {Field} field */
    update: ([, , value]) => fillIfChanged(description, value),
  };
}

/**
 * @param {Job} job
 * @returns {Field[]}
 */
function fieldsOf(job) {
  return [
    ["queue", "Queue", el("a", { class: "id", href: jobsHref({ queue: job.queue }) }, job.queue)],
    ["slate_id", "Slate", job.slate_id && el("a", { href: jobsHref({ slate_id: job.slate_id }) }, job.slate_id)],
    ["labels", "Labels", labelList(job.labels)],
    ["scenario_count", "Scenarios", job.scenario_count?.toLocaleString()],
    [
      "correlation_id",
      "Correlation ID",
      job.correlation_id &&
        el("a", { class: "id", href: jobsHref({ correlation_id: job.correlation_id }) }, job.correlation_id),
    ],
    ["priority", "Priority", job.priority ? `${job.priority} s` : null],
    ["attempt", "Attempts", attemptsText(job)],
    ["worker", "Worker", job.worker],
    ["lease_expires_at", "Lease expires", leaseValue(job)],
    ["cancel_requested_at", "Cancel requested", timeAgo(job.cancel_requested_at)],
    [
      "available_at",
      "Available",
      job.status === "pending" && job.available_at && timeElement(job.available_at, "left"),
    ],
    ["start_deadline_at", "Start time-out", timeoutValue(job.start_deadline_at, job.start_timeout_seconds)],
    ["run_deadline_at", "Run time-out", timeoutValue(job.run_deadline_at, job.run_timeout_seconds)],
    ["created_at", "Created", timeAgo(job.created_at)],
    ["started_at", "Started", timeAgo(job.started_at)],
    ["finished_at", "Finished", timeAgo(job.finished_at)],
    ["duration", "Duration", durationText(job)],
    ["updated_at", "Updated", timeAgo(job.updated_at)],
    ["retention_seconds", "Kept after its end", keptText(job)],
    ["expires_at", "Expires", timeElement(job.expires_at, "left")],
    ["traceparent", "Trace", job.traceparent && el("code", {}, job.traceparent)],
  ];
}

/**
 * Return the other fields as they are, also those that this page does not know.
 * @param {Job} job
 * @param {Field[]} fields
 * @returns {Field[]}
 */
function otherFields(job, fields) {
  const known = new Set([...SHOWN_ELSEWHERE, ...fields.map(([name]) => name)]);
  return Object.entries(job)
    .filter(([name]) => !known.has(name))
    .map(([name, value]) => [name, labelOf(name), plainValue(name, value)]);
}

/** Return a label: `review_at` becomes "Review at". @param {string} name */
function labelOf(name) {
  return name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {Child}
 */
function plainValue(name, value) {
  if (typeof value === "number") return value.toLocaleString();
  if (typeof value !== "string") return el("code", {}, JSON.stringify(value));
  return name.endsWith("_at") ? timeElement(value, Date.parse(value) > Date.now() ? "left" : "ago") : value;
}

/** @param {Job} job */
function keptText({ retention_seconds }) {
  return retention_seconds ? duration(retention_seconds * 1000) : null;
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
  return timeLeft(lease_expires_at, lease_seconds);
}

/**
 * Return the time left of a period of some seconds, if these are known.
 * @param {string} end
 * @param {number | undefined} seconds
 */
function timeLeft(end, seconds) {
  const total = seconds ? el("span", { class: "muted" }, ` of ${duration(seconds * 1000)}`) : null;
  return el("span", { class: "number" }, timeElement(end, "left"), total);
}

/**
 * Return the time left of a time-out, or its length while it does not count.
 * @param {string | undefined} deadline
 * @param {number | undefined} seconds
 */
function timeoutValue(deadline, seconds) {
  if (deadline) return timeLeft(deadline, seconds);
  return seconds ? duration(seconds * 1000) : null;
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
