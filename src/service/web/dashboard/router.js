/** What the address bar says: the part after `#` holds the whole view, so that it can be sent to a colleague. */

export const FILTERS = /** @type {const} */ (["status", "queue", "slate_id", "correlation_id"]);

/** @typedef {{view: "overview" | "jobs" | "job" | "missing", id: string, asked: URLSearchParams}} Route */

/**
 * Read a view out of the part of an address after `#`.
 * @param {string} hash
 * @returns {Route}
 */
export function routeOf(hash) {
  const [path = "", query = ""] = split(hash.replace(/^#/, ""), "?");
  const asked = new URLSearchParams(query);
  if (path === "" || path === "/") return { view: "overview", id: "", asked };
  if (path === "/jobs") return { view: "jobs", id: "", asked };
  const id = decoded(/^\/jobs\/([^/]+)$/.exec(path)?.[1] ?? "");
  return id ? { view: "job", id, asked } : { view: "missing", id: "", asked };
}

/**
 * Where the list is, with these filters; those that are empty are left out.
 * @param {Record<string, string | null | undefined>} [asked]
 */
export function toJobs(asked = {}) {
  const query = queryOf(asked);
  return query ? `#/jobs?${query}` : "#/jobs";
}

/**
 * Where a job is.
 * @param {string} id
 */
export function toJob(id) {
  return `#/jobs/${encodeURIComponent(id)}`;
}

/**
 * Where the overview is, with the length of its plot.
 * @param {Record<string, string>} [asked]
 */
export function toOverview(asked = {}) {
  const query = queryOf(asked);
  return query ? `#/?${query}` : "#/";
}

/**
 * A query out of what is not empty.
 * @param {Record<string, string | null | undefined>} asked
 */
export function queryOf(asked) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) if (value) query.set(name, value);
  return query.toString();
}

/**
 * @param {string} text
 * @param {string} separator
 */
function split(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
