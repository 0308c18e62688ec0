/** The buttons of a job: cancel it, retry it, submit it again, copy it as curl. */

import { jobPath, newIdempotencyKey, request } from "./api.js";
import { curlToCreate, curlToRead } from "./curl.js";
import { openDialog } from "./dialog.js";
import { el, show } from "./dom.js";
import { createBody } from "./job-record.js";
import { isFinal, isRetryable } from "./model.js";
import { jobHref } from "./router.js";
import { copy, toast, withErrorToast } from "./toasts.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./job-record.js").JobRecord} JobRecord */

/**
 * Return the buttons.
 * @param {() => JobRecord} getRecord returns the current record
 * @param {() => void} onChange called after a request to cancel or to retry
 */
export function actions(getRecord, onChange) {
  const cancel = el(
    "button",
    { type: "button", class: "danger", click: () => cancelJob(getRecord().job, onChange) },
    "Cancel",
  );
  const retry = el("button", { type: "button", click: () => retryJob(getRecord().job, onChange) }, "Retry");
  const submit = el("button", { type: "button", click: () => submitAgain(getRecord()) }, "Submit again");
  const create = el("button", { type: "button", click: () => copyCreate(getRecord()) }, "Copy as curl");
  const read = el(
    "button",
    { type: "button", click: () => copy(curlToRead(getRecord().job.job_id), "curl command") },
    "Copy curl to read",
  );
  const node = el("div", { class: "actions" }, cancel, retry, submit, create, read);
  return {
    node,
    /** @param {Job} job */
    update(job) {
      show(cancel, !isFinal(job.status));
      show(retry, isRetryable(job.status));
    },
  };
}

/** @param {JobRecord} record */
function copyCreate(record) {
  return copy(curlToCreate(createBody(record)), "curl command");
}

/**
 * @param {Job} job
 * @param {() => void} onChange
 */
async function cancelJob({ job_id, status, lease_expires_at }, onChange) {
  if (status === "running" && !(await confirmCancel(job_id, lease_expires_at))) return;
  await withErrorToast(async () => {
    const headers = { "Idempotency-Key": newIdempotencyKey() };
    const response = await request("POST", jobPath(job_id, "/cancel"), { headers });
    toast(response.status === 202 ? "Cancellation requested." : "Job cancelled.");
    onChange();
  });
}

/**
 * @param {string} id
 * @param {string | undefined} lease
 */
function confirmCancel(id, lease) {
  const text = lease
    ? "A worker holds the job. It is asked to stop, but it may still complete the job."
    : "The job runs without a lease. It is cancelled immediately, and later updates by its worker are rejected.";
  return openDialog({ title: `Cancel ${id}?`, text, action: "Cancel job", isDestructive: true });
}

/**
 * @param {Job} job
 * @param {() => void} onChange
 */
async function retryJob({ job_id }, onChange) {
  await withErrorToast(async () => {
    const headers = { "Idempotency-Key": newIdempotencyKey() };
    await request("POST", jobPath(job_id, "/retry"), { headers });
    toast("Job is pending again.");
  });
  onChange();
}

/** @param {JobRecord} record */
async function submitAgain(record) {
  await withErrorToast(async () => {
    const headers = { "Idempotency-Key": newIdempotencyKey() };
    const { text } = await request("POST", "v1/jobs", { body: createBody(record), headers });
    const id = JSON.parse(text).job_id;
    location.hash = jobHref(id);
    toast(`Submitted again as ${id}.`);
  });
}
