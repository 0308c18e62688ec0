/** Requests to the service's API. A rejected request throws a `Problem`, a missing response a `NetworkError`. */

import { authorization, reportUnauthorized } from "./api-key.js";
import { syncClock } from "./time.js";

const TIMEOUT_MS = 10_000;
const TYPE_PREFIX = "urn:jobstate:problem:";

/** An error response of the service (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{type?: string, title?: string, detail?: string}} body
   */
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The service returned ${status}.`);
    this.status = status;
    this.type = (body.type ?? "").replace(TYPE_PREFIX, "");
  }
}

/** No response, or one that does not come from the service. */
export class NetworkError extends Error {
  constructor() {
    super("Service unreachable.");
  }
}

/**
 * Return whether a retry of the same request may succeed.
 * @param {unknown} error
 */
export function isTransient(error) {
  return !(error instanceof Problem) || error.status === 429 || error.status >= 500;
}

/** @typedef {{status: number, text: string}} ApiResponse */

/**
 * Return the full URL of a path of the service, including a proxy's path prefix.
 * @param {string} path
 */
export function resolveUrl(path) {
  return new URL(path, document.baseURI.replace(/#.*/, "")).href;
}

/**
 * Return the API path of a job.
 * @param {string} id
 */
export function jobPath(id, suffix = "") {
  return `v1/jobs/${encodeURIComponent(id)}${suffix}`;
}

/**
 * Send a request and return the response's status and text.
 * @param {string} method
 * @param {string} path
 * @param {{body?: string, headers?: Record<string, string>}} [options]
 * @returns {Promise<ApiResponse>}
 */
export async function request(method, path, { body, headers = {} } = {}) {
  const contentType = body === undefined ? {} : { "Content-Type": "application/json" };
  let response, text;
  try {
    const allHeaders = { ...contentType, ...headers, ...authorization() };
    const options = { body, headers: allHeaders, method, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
    response = await fetch(resolveUrl(path), /** @type {RequestInit} */ (options));
    text = await response.text();
  } catch {
    throw new NetworkError();
  }
  syncClock(response.headers.get("Date"));
  if (!response.ok) throw toError(response, text, method);
  return { status: response.status, text };
}

/**
 * Return the parsed JSON of a GET request.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  return JSON.parse((await request("GET", path)).text);
}

/**
 * Send a body as JSON and return the parsed JSON of the response.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function sendJson(method, path, body) {
  const { text } = await request(method, path, body === undefined ? {} : { body: JSON.stringify(body) });
  return JSON.parse(text);
}

/** Return a new `Idempotency-Key`. `crypto.randomUUID` exists in secure contexts only, and plain HTTP is none. */
export function newIdempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Convert an error response. If the page needs an API key to read, or another one, this also asks for it.
 * @param {Response} response
 * @param {string} text
 * @param {string} method
 */
export function toError(response, text, method) {
  const error = parseProblem(response, text);
  const cannotRead = error instanceof Problem && error.type === "insufficient-scope" && method === "GET";
  if (cannotRead || (error instanceof Problem && error.status === 401)) reportUnauthorized(error.message);
  return error;
}

/**
 * @param {Response} response
 * @param {string} text
 */
function parseProblem(response, text) {
  if (!response.headers.get("Content-Type")?.startsWith("application/problem+json")) return new NetworkError();
  try {
    return new Problem(response.status, JSON.parse(text));
  } catch {
    return new NetworkError();
  }
}
