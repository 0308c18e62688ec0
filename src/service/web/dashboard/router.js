/** Maps the part of the address after `#` to a view and back. It holds the whole view, so links can be shared. */

/** Values of parameters. One with a list is repeated. @typedef {Record<string, string | string[] | null | undefined>} Params */

/** @typedef {{view: "overview" | "jobs" | "job" | "bulk-actions" | "missing", id: string, params: URLSearchParams}} Route */

/**
 * Parse the part of an address after `#`.
 * @param {string} hash
 * @returns {Route}
 */
export function parseRoute(hash) {
  const [path = "", query = ""] = splitOnce(hash.replace(/^#/, ""), "?");
  const params = new URLSearchParams(query);
  if (path === "" || path === "/") return { view: "overview", id: "", params };
  if (path === "/jobs") return { view: "jobs", id: "", params };
  if (path === "/bulk-actions") return { view: "bulk-actions", id: "", params };
  const id = decodeOrEmpty(/^\/jobs\/([^/]+)$/.exec(path)?.[1] ?? "");
  return id ? { view: "job", id, params } : { view: "missing", id: "", params };
}

/**
 * Return the link to the list of jobs. Empty parameters are left out.
 * @param {Params} [params]
 */
export function jobsHref(params = {}) {
  const query = buildQuery(params);
  return query ? `#/jobs?${query}` : "#/jobs";
}

/**
 * Return the link to a job.
 * @param {string} id
 */
export function jobHref(id) {
  return `#/jobs/${encodeURIComponent(id)}`;
}

/**
 * Return the link to the overview.
 * @param {Record<string, string>} [params]
 */
export function overviewHref(params = {}) {
  const query = buildQuery(params);
  return query ? `#/?${query}` : "#/";
}

/**
 * Return a query string without the empty parameters.
 * @param {Params} params
 */
export function buildQuery(params) {
  const query = new URLSearchParams();
  for (const [name, values] of Object.entries(params))
    for (const value of [values].flat()) if (value) query.append(name, value);
  return query.toString();
}

/**
 * @param {string} text
 * @param {string} separator
 */
function splitOnce(text, separator) {
  const index = text.indexOf(separator);
  return index < 0 ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

/** @param {string} text */
function decodeOrEmpty(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
