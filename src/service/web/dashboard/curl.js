/** curl commands to copy, quoted for a POSIX shell. */

import { jobPath, resolveUrl } from "./api.js";
import { hasKey } from "./api-key.js";

/** Linux rejects a single argument above 128 KiB (`MAX_ARG_STRLEN`). Longer bodies go through standard input. */
const MAX_ARGUMENT_BYTES = 100_000;

/**
 * Quote a text so that a shell takes it literally.
 * @param {string} text
 */
export function shellQuote(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * Return the command that creates a job.
 * @param {string} body JSON
 */
export function curlToCreate(body) {
  const command = `${curl(resolveUrl("v1/jobs"))} -H 'Content-Type: application/json'`;
  if (body.length * 3 < MAX_ARGUMENT_BYTES) return `${command} --data-raw ${shellQuote(body)}`;
  let delimiter = "JSON";
  while (body.split("\n").includes(delimiter)) delimiter += "_";
  return `${command} --data-binary @- <<'${delimiter}'\n${body}\n${delimiter}`;
}

/**
 * Return the command that reads a job.
 * @param {string} id
 */
export function curlToRead(id) {
  return curl(resolveUrl(jobPath(id)));
}

/** The command names an environment variable in place of the key. @param {string} url */
function curl(url) {
  const header = hasKey() ? ` -H "Authorization: Bearer $JOBSTATE_API_KEY"` : "";
  return `curl ${shellQuote(url)}${header}`;
}
