/** What can be done with a job: cancel it, submit it again, take its curl along. */

import { toJob } from "./router.js";
import { ask, jobPath, newKey } from "./api.js";
import { curlToCreate, curlToRead } from "./curl.js";
import { question } from "./dialog.js";
import { el, show } from "./dom.js";
import { attempt, copy, say } from "./toasts.js";
import { creationOf, isFinal } from "./model.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./model.js").Texts} Texts */

/**
 * The buttons of a job.
 * @param {() => {job: Job, texts: Texts}} record the job as it is now
 * @param {() => void} changed what to do when it was changed from here
 */
export function actions(record, changed) {
  const cancel = el(
    "button",
    { type: "button", class: "grave", click: () => cancelJob(record().job, changed) },
    "Cancel",
  );
  const again = el("button", { type: "button", click: () => submitAgain(record()) }, "Submit again");
  const create = el("button", { type: "button", click: () => copyCreation(record()) }, "Copy as curl");
  const reading = el(
    "button",
    { type: "button", click: () => copy(curlToRead(record().job.job_id), "Curl to read it") },
    "Copy curl to read",
  );
  const node = el("div", { class: "actions" }, cancel, again, create, reading);
  return {
    node,
    /** @param {Job} job */
    update: (job) => show(cancel, !isFinal(job.status)),
  };
}

/** @param {{job: Job, texts: Texts}} record */
function copyCreation({ job, texts }) {
  return copy(curlToCreate(creationOf(job, texts)), "Curl to submit it again");
}

/**
 * @param {Job} job
 * @param {() => void} changed
 */
async function cancelJob({ job_id, status, lease_expires_at }, changed) {
  if (status === "running" && !(await isMeant(job_id, lease_expires_at))) return;
  await attempt(async () => {
    const answer = await ask("POST", jobPath(job_id, "/cancel"), { headers: { "Idempotency-Key": newKey() } });
    say(answer.status === 202 ? "Its worker was asked to stop." : "Cancelled.");
    changed();
  });
}

/**
 * @param {string} id
 * @param {string | undefined} lease
 */
function isMeant(id, lease) {
  const text = lease
    ? "A worker is at it. It is asked to stop, and may complete the job all the same."
    : "It is running. It ends at once, and what its worker says of it later is refused.";
  return question({ title: `Cancel ${id}?`, text, action: "Cancel the job", isGrave: true });
}

/** @param {{job: Job, texts: Texts}} record */
async function submitAgain({ job, texts }) {
  await attempt(async () => {
    const headers = { "Idempotency-Key": newKey() };
    const { text } = await ask("POST", "v1/jobs", { body: creationOf(job, texts), headers });
    const id = JSON.parse(text).job_id;
    location.hash = toJob(id);
    say(`Submitted again as ${id}.`);
  });
}
