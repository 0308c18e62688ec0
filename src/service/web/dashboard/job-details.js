/** What stands in a job's record, told in words. */

import { toJobs } from "./router.js";
import { el, Parts, refill } from "./dom.js";
import { isFinal } from "./model.js";
import { duration, timeElement } from "./time.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./dom.js").Child} Child */

/** The list of facts. */
export function facts() {
  const node = el("dl", { class: "facts card" });
  const parts = new Parts(node, (/** @type {[string, Child]} */ [name]) => name, entry);
  return {
    node,
    /** @param {Job} job */
    update: (job) => parts.show(entriesOf(job).filter(([, value]) => value)),
  };
}

/** @param {[string, Child]} fact */
function entry([name]) {
  const words = el("dd");
  return {
    node: el("div", {}, el("dt", {}, name), words),
    /** @param {[string, Child]} fact */
    update: ([, value]) => refill(words, value),
  };
}

/**
 * @param {Job} job
 * @returns {[string, Child][]}
 */
function entriesOf(job) {
  return [
    ["Queue", el("a", { class: "id", href: toJobs({ queue: job.queue }) }, job.queue)],
    ["Slate", job.slate_id && el("a", { href: toJobs({ slate_id: job.slate_id }) }, job.slate_id)],
    ["Scenarios", job.scenario_count?.toLocaleString()],
    [
      "Correlation id",
      job.correlation_id &&
        el("a", { class: "id", href: toJobs({ correlation_id: job.correlation_id }) }, job.correlation_id),
    ],
    ["Attempts", attemptsOf(job)],
    ["Worker", job.worker],
    ["Lease ends", leaseOf(job)],
    ["Cancel asked for", timeOf(job.cancel_requested_at)],
    ["Due", job.status === "pending" && job.available_at && timeElement(job.available_at, "left")],
    ["Created", timeOf(job.created_at)],
    ["Started", timeOf(job.started_at)],
    ["Finished", timeOf(job.finished_at)],
    ["Took", tookOf(job)],
    ["Last change", timeOf(job.updated_at)],
    ["Expires", timeElement(job.expires_at, "left")],
    ["Trace", job.traceparent && el("code", {}, job.traceparent)],
  ];
}

/** @param {Job} job */
function attemptsOf({ attempt, failures, max_attempts, retry_delay_seconds }) {
  const failed = failures ? `, ${failures} failed` : "";
  const retries = max_attempts > 1 ? ` (may fail ${max_attempts} times, retried after ${retry_delay_seconds} s)` : "";
  return `${attempt}${failed}${retries}`;
}

/** @param {Job} job */
function leaseOf({ status, stale, lease_expires_at, lease_seconds }) {
  if (status !== "running") return null;
  if (!lease_expires_at) return "it runs without a lease";
  if (stale) return el("strong", { class: "warning" }, "ran out ", timeElement(lease_expires_at));
  return el(
    "span",
    { class: "number" },
    timeElement(lease_expires_at, "left"),
    lease_seconds ? el("span", { class: "quiet" }, ` of ${duration(lease_seconds * 1000)}`) : null,
  );
}

/** @param {Job} job */
function tookOf({ status, created_at, started_at, finished_at }) {
  if (!isFinal(status) || !finished_at) return null;
  const whole = duration(Date.parse(finished_at) - Date.parse(created_at));
  return started_at ? `${whole}, ${duration(Date.parse(finished_at) - Date.parse(started_at))} of it at work` : whole;
}

/** @param {string | undefined} time */
function timeOf(time) {
  return time ? timeElement(time) : null;
}
