/** Asking the service: what it refuses is a `Problem`, what does not reach it an `Unreachable`. */

import { authorization, turnedAway } from "./api-key.js";
import { learn } from "./time.js";

const PATIENCE = 10_000;
const URN = "urn:jobstate:problem:";

/** A refusal of the service (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{type?: string, title?: string, detail?: string}} body
   */
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The service answered ${status}.`);
    this.status = status;
    this.kind = (body.type ?? "").replace(URN, "");
  }
}

/** No answer, or one that is not the service's. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

/**
 * Whether a request may well be answered another time: it is not the request that is wrong.
 * @param {unknown} error
 */
export function isPassing(error) {
  return !(error instanceof Problem) || error.status === 429 || error.status >= 500;
}

/** @typedef {{status: number, text: string}} Reply */

/**
 * Where something of the service is, also behind a path prefix.
 * @param {string} path
 */
export function addressOf(path) {
  return new URL(path, document.baseURI.replace(/#.*/, "")).href;
}

/**
 * Where a job is in the API.
 * @param {string} id
 */
export function jobPath(id, rest = "") {
  return `v1/jobs/${encodeURIComponent(id)}${rest}`;
}

/**
 * Ask, and return the answer as it came.
 * @param {string} method
 * @param {string} path
 * @param {{body?: string, headers?: Record<string, string>}} [more]
 * @returns {Promise<Reply>}
 */
export async function ask(method, path, { body, headers = {} } = {}) {
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  let response, text;
  try {
    const all = { ...type, ...headers, ...authorization() };
    const options = { body, headers: all, method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
    response = await fetch(addressOf(path), /** @type {RequestInit} */ (options));
    text = await response.text();
  } catch {
    throw new Unreachable();
  }
  learn(response.headers.get("Date"));
  if (!response.ok) throw refusal(response, text, method);
  return { status: response.status, text };
}

/**
 * Read JSON.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function read(path) {
  return JSON.parse((await ask("GET", path)).text);
}

/**
 * Send JSON, with a key that makes it harmless if the request arrives twice.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function send(method, path, body) {
  const { text } = await ask(method, path, body === undefined ? {} : { body: JSON.stringify(body) });
  return JSON.parse(text);
}

/** A fresh `Idempotency-Key`; `crypto.randomUUID` is there in secure contexts only, which plain HTTP is not. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What an answer that is no success means; where the page needs a key, or another one, for what it shows, it is asked for.
 * @param {Response} response
 * @param {string} text
 * @param {string} method
 */
export function refusal(response, text, method) {
  const error = meaningOf(response, text);
  const mayNotRead = error instanceof Problem && error.kind === "insufficient-scope" && method === "GET";
  if (mayNotRead || (error instanceof Problem && error.status === 401)) turnedAway(error.message);
  return error;
}

/**
 * @param {Response} response
 * @param {string} text
 */
function meaningOf(response, text) {
  if (!response.headers.get("Content-Type")?.startsWith("application/problem+json")) return new Unreachable();
  try {
    return new Problem(response.status, JSON.parse(text));
  } catch {
    return new Unreachable();
  }
}
