/** Commands to copy, quoted for a POSIX shell. */

import { addressOf, jobPath } from "./api.js";
import { hasKey } from "./api-key.js";

/** A single argument of more bytes than 128 KiB is refused by Linux: what is long goes by standard input. */
const ARGUMENT = 100_000;

/**
 * Quote text so that a shell takes it as it is.
 * @param {string} text
 */
export function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * The command that creates a job.
 * @param {string} body JSON
 */
export function curlToCreate(body) {
  const head = `${curl(addressOf("v1/jobs"))} -H 'Content-Type: application/json'`;
  if (body.length * 3 < ARGUMENT) return `${head} --data-raw ${quoted(body)}`;
  let end = "JSON";
  while (body.split("\n").includes(end)) end += "_";
  return `${head} --data-binary @- <<'${end}'\n${body}\n${end}`;
}

/**
 * The command that reads a job.
 * @param {string} id
 */
export function curlToRead(id) {
  return curl(addressOf(jobPath(id)));
}

/** The key itself stays here: the shell has its own. @param {string} address */
function curl(address) {
  const key = hasKey() ? ` -H "Authorization: Bearer $JOBSTATE_API_KEY"` : "";
  return `curl ${quoted(address)}${key}`;
}
