/** The command that creates a first job. */

import { commandBox, emptyState } from "./components.js";
import { curlToCreate } from "./curl.js";
import { el } from "./dom.js";
import { copy } from "./toasts.js";

/** Return what a view shows while no job exists. */
export function onboarding() {
  const command = curlToCreate('{"job_id": "first", "queue": "greetings", "input_params": {"name": "world"}}');
  return emptyState(
    "No jobs yet",
    el("p", {}, "Create the first job. It appears here immediately:"),
    commandBox(command, copy),
    el(
      "p",
      {},
      "Then run a worker that claims jobs from its queue. Try each request in the ",
      el("a", { href: "schema" }, "API reference"),
      ".",
    ),
  );
}
