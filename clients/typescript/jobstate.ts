// Submits jobs and waits for them through the client of openapi-fetch. To use it, copy this file: see docs/clients.md.
import type { Client } from "openapi-fetch";
import type { components, paths } from "./openapi.js";

type Schemas = components["schemas"];
type Job = Schemas["Job"];
type Api = Client<paths>;
/** A record without input and result. After the job's deletion or expiry it has only the fields of `JobEvent`. */
export type JobChange = Schemas["JobEvent"] & Partial<Omit<Job, "input_params" | "result">>;
/** `timeout` in milliseconds, none by default. `signal` ends the call as well. `parse` reads the result's JSON. */
export type Options<T = unknown> = { timeout?: number; signal?: AbortSignal; parse?: (json: string) => T };
type Answer<T> = { data?: T; error?: unknown; response?: Response };

const FINAL = ["completed", "failed", "cancelled"];
/** The longest request, in milliseconds. It ends what hangs; an event stream resumes. A long poll takes 30 s. */
const LONGEST = 45_000;

/** The service rejects the request, or (`job-failed`, `job-cancelled`) the job has no result: see `problem.type`. */
export class JobstateError extends Error {
  readonly problem: Schemas["Problem"];
  constructor(problem: Schemas["Problem"]) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** Creates a job once, however often the request is repeated. */
export async function submitJob(client: Api, body: Schemas["CreateJob"], options: Options = {}): Promise<Job> {
  const params = { header: { "Idempotency-Key": crypto.randomUUID() } };
  const answer = await repeat((signal) => client.POST("/v1/jobs", { params, body, signal }), limitOf(options));
  return answer.data as Job;
}

/** Returns the result; `undefined` if the job completed without one. Throws `JobstateError` for any other end. */
export async function waitForJob<T>(client: Api, id: string, options: Options<T> = {}): Promise<T | undefined> {
  const [limit, path] = [limitOf(options), { job_id: id }];
  for (let [etag, wait, isFinal] = ["", 0, false]; !isFinal; wait = 30) {
    const params = { path, query: { wait }, header: etag ? { "If-None-Match": etag } : {} };
    const { data, response } = await repeat((signal) => client.GET("/v1/jobs/{job_id}", { params, signal }), limit);
    [etag, isFinal] = [response?.headers.get("etag") ?? "", FINAL.includes(data?.status ?? "")];
  }
  const request = { params: { path }, parseAs: "text" } as const;
  const { data } = await repeat((signal) => client.GET("/v1/jobs/{job_id}/result", { ...request, signal }), limit);
  return data === undefined ? data : (options.parse ?? JSON.parse)(data);
}

/** Yields the job after each change, the final state last. Throws if the job is deleted or expires unfinished. */
export async function* watchJob(client: Api, id: string, options: Options = {}): AsyncGenerator<JobChange> {
  const limit = limitOf(options);
  for (let lastId = ""; ; await sleep(1000, limit)) {
    const params = { path: { job_id: id }, header: lastId ? { "Last-Event-ID": lastId } : {} };
    const request = { params, parseAs: "stream" } as const;
    const { data } = await repeat((signal) => client.GET("/v1/jobs/{job_id}/events", { ...request, signal }), limit);
    if (!data) return;
    for await (const { event, id, data: json } of eventsOf(data)) {
      lastId = id ?? lastId;
      if (event === "deleted" || event === "expired") throw new Error(`the job is ${event}, its end is unknown`);
      if (event !== "changed" || !json) continue;
      const change = JSON.parse(json) as JobChange;
      yield change;
      if (FINAL.includes(change.status)) return;
    }
  }
}

/** Repeats a request until the service answers it. What is no answer of the service is an outage, like a 503. */
async function repeat<T>(send: (signal: AbortSignal) => Promise<Answer<T>>, limit: AbortSignal): Promise<Answer<T>> {
  for (let delay = 250; ; delay = Math.min(2 * delay, 5000)) {
    const signal = AbortSignal.any([limit, AbortSignal.timeout(LONGEST)]);
    const answer: Answer<T> = await send(signal).catch(() => ({}));
    const [status, headers] = [answer.response?.status ?? 0, answer.response?.headers ?? new Headers()];
    const isOurs = /^(application\/(problem\+)?json|text\/event-stream)\b/.test(headers.get("content-type") ?? "");
    if (status === 204 || status === 304 || (isOurs && answer.response?.ok)) return answer;
    const problem = (isOurs ? answer.error : undefined) as Schemas["Problem"] | undefined;
    const isFinal = status < 500 && ![408, 429].includes(status);
    if (isFinal && problem?.type?.startsWith("urn:jobstate:problem:")) throw new JobstateError(problem);
    if (status === 413) throw new Error("a proxy rejects the request because of its size");
    await sleep(Math.max(delay, 1000 * Number(headers.get("retry-after")) || 0), limit);
  }
}

function limitOf({ timeout, signal }: Options): AbortSignal {
  return AbortSignal.any([...(timeout ? [AbortSignal.timeout(timeout)] : []), ...(signal ? [signal] : [])]);
}

/** Sleeps up to a quarter longer, so that many clients do not come back at once. Throws when the limit is over. */
async function sleep(milliseconds: number, limit: AbortSignal): Promise<void> {
  const alarm = new AbortController();
  const timer = setTimeout(() => alarm.abort(), milliseconds * (1 + Math.random() / 4));
  const woken = AbortSignal.any([alarm.signal, limit]);
  if (!woken.aborted) await new Promise((resolve) => woken.addEventListener("abort", resolve));
  clearTimeout(timer);
  limit.throwIfAborted();
}

/** Yields the fields of each event until the connection ends. */
async function* eventsOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Record<string, string | undefined>> {
  const [reader, decoder] = [stream.getReader(), new TextDecoder()];
  try {
    for (let text = "", chunk; (chunk = await reader.read().catch(() => undefined))?.value;) {
      const events = (text + decoder.decode(chunk.value, { stream: true })).split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) yield Object.fromEntries(event.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
