/** What a newcomer sees: the command that makes the first job. */

import { commandBox, emptiness } from "./components.js";
import { curlToCreate } from "./curl.js";
import { el } from "./dom.js";
import { copy } from "./toasts.js";

/** What is shown where there is no job at all. */
export function firstJob() {
  const create = curlToCreate('{"job_id": "first", "queue": "greetings", "input_params": {"name": "world"}}');
  return emptiness(
    "There is no job yet",
    el("p", {}, "Make the first one; it appears here at once:"),
    commandBox(create, copy),
    el(
      "p",
      {},
      "Then a worker takes it from its queue, ten lines of Python or four calls. ",
      el("a", { href: "schema" }, "The API"),
      " has them all, to be tried in the browser.",
    ),
  );
}
