// Runs a job from creation to deletion with types from the API document. The argument is the service's URL.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./openapi.js";

type Job = components["schemas"]["Job"];
type CreateJob = components["schemas"]["CreateJob"];
type UpdateJob = components["schemas"]["UpdateJob"];
type Problem = components["schemas"]["Problem"];

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const sunday = { params: { path: { job_id: "sunday" } } };

async function runJob(): Promise<void> {
  const body: CreateJob = { job_id: "sunday", slate_id: "pinewood-400", input_params: { seed: 42, none: null } };
  const created = await client.POST("/v1/jobs", { body });
  assert.equal(created.response.status, 201);
  const job: Job = present(created.data);
  assert.equal(job.status, "pending");
  assert.deepEqual(job.input_params, { seed: 42, none: null });
  assert.equal("finished_at" in job, false);

  const progress = { current: 1, total: 2 };
  const running = await client.PATCH("/v1/jobs/{job_id}", { ...sunday, body: { status: "running", progress } });
  assert.equal(present(running.data).progress?.total, 2);
  const listed = await client.GET("/v1/jobs", { params: { query: { status: "running", slate_id: "pinewood-400" } } });
  assert.equal(present(listed.data).items[0]?.job_id, "sunday");

  await client.PATCH("/v1/jobs/{job_id}", { ...sunday, body: { status: "completed", result: null } });
  const result = await client.GET("/v1/jobs/{job_id}/result", sunday);
  assert.equal(result.data, null);
  assert.equal((await client.DELETE("/v1/jobs/{job_id}", sunday)).response.status, 204);
}

async function configureQueue(): Promise<void> {
  const queue = { params: { path: { queue: "q" } } };
  const limited = await client.PUT("/v1/queues/{queue}", { ...queue, body: { paused: true, max_running: 2 } });
  assert.equal(present(limited.data).max_running, 2);
  const kept = await client.PUT("/v1/queues/{queue}", queue);
  assert.deepEqual([present(kept.data).paused, present(kept.data).max_running], [true, 2]);
  const cleared = await client.PUT("/v1/queues/{queue}", { ...queue, body: { paused: null, max_running: null } });
  assert.deepEqual([present(cleared.data).paused, present(cleared.data).max_running], [false, undefined]);
}

async function checkProblems(): Promise<void> {
  const missing = await client.GET("/v1/jobs/{job_id}", sunday);
  assert.equal(asProblem(missing.error).type, "urn:jobstate:problem:job-not-found");

  await client.POST("/v1/jobs", { body: { job_id: "sunday", input_params: 1 } });
  const illegal = await client.PATCH("/v1/jobs/{job_id}", { ...sunday, body: { status: "completed" } });
  const problem = asProblem(illegal.error);
  assert.deepEqual([problem.status, problem.current_status, problem.revision], [409, "pending", 1]);

  const invalid = await client.GET("/v1/jobs", { params: { query: { limit: 1000 } } });
  assert.equal(asProblem(invalid.error).errors?.[0]?.field, "limit");
}

// Checked by the compiler only: it rejects this file if an expected error is missing.
export const open: Job["status"] = "a status that does not exist yet";
// @ts-expect-error requests accept known statuses only
export const closed: UpdateJob["status"] = "a status that does not exist yet";
// @ts-expect-error an optional field is not nullable
export const absent: CreateJob = { input_params: 1, slate_id: null };
// @ts-expect-error input_params is required
export const incomplete: CreateJob = { slate_id: "pinewood-400" };
export const anything: CreateJob = { input_params: null };

function present<T>(data: T | undefined): T {
  assert.notEqual(data, undefined);
  return data as T;
}

function asProblem(error: Problem | undefined): Problem {
  return present(error);
}

await runJob();
await configureQueue();
await checkProblems();
console.log("passed");
