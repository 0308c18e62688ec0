// A job's whole life through the client that hey-api makes from the API document; the service's URL is the argument.
import assert from "node:assert/strict";
import { createClient } from "./hey-api/client/index.js";
import * as api from "./hey-api/index.js";

const client = createClient({ baseUrl: process.argv[2] ?? "" });
const monday = { client, path: { job_id: "monday" } };

async function finish(): Promise<void> {
  const body: api.CreateJob = { job_id: "monday", input_params: { seed: 42, none: null }, scenario_count: 5_000_000_000 };
  const created = present(await api.createJob({ client, body }));
  assert.deepEqual([created.status, created.input_params], ["pending", { seed: 42, none: null }]);

  const running: api.UpdateJob = { status: "running", progress: { current: 1, total: 2 } };
  assert.equal(present(await api.updateJob({ ...monday, body: running })).progress?.total, 2);
  const listed = present(await api.listJobs({ client, query: { status: "running", limit: 10 } }));
  assert.deepEqual(listed.items.map((job) => job.job_id), ["monday"]);

  await api.updateJob({ ...monday, body: { status: "completed", result: null } });
  assert.equal((await api.getJobResult(monday)).response?.status, 200);
  assert.equal((await api.deleteJob(monday)).response?.status, 204);
}

async function work(): Promise<void> {
  const { job_id } = present(await api.createJob({ client, body: { queue: "hey", input_params: 1 } }));
  const request: api.ClaimJob = { queues: ["hey"], worker: "hey" };
  const first = present(await api.claimJob({ client, body: request }));
  const held = { client, path: { job_id }, headers: { "Lease-Token": first.lease.token } };
  assert.equal(present(await api.heartbeatJob(held)).cancel_requested, false);
  const released = present(await api.releaseJob(held));
  assert.deepEqual([released.status, released.failures], ["pending", 0]);

  const second = present(await api.claimJob({ client, body: request }));
  const headers = { "Lease-Token": second.lease.token };
  const done = present(await api.updateJob({ client, path: { job_id }, headers, body: { status: "completed" } }));
  assert.deepEqual([done.status, done.attempt], ["completed", 2]);
}

async function readProblem(): Promise<void> {
  const { error } = await api.getJob(monday);
  assert.equal(error?.type, "urn:jobstate:problem:job-not-found");
}

function present<T>(found: { data?: T; error?: unknown }): Exclude<T, void | undefined> {
  assert.ok(found.data, JSON.stringify(found.error));
  return found.data as Exclude<T, void | undefined>;
}

await finish();
await work();
await readProblem();
console.log("passed");
