/** Whether jobs are given out at all, and the switch for it. */

import { toJob } from "./router.js";
import { send } from "./api.js";
import { question } from "./dialog.js";
import { el, refill, setAttribute, show } from "./dom.js";
import { attempt, say } from "./toasts.js";
import { tell, timeElement } from "./time.js";

/** @typedef {import("./model.js").Drain} Drain */

const HALF_AN_HOUR = "30";
const MOST_MINUTES = 1440;

/**
 * The card of the drain.
 * @param {() => void} changed what to do when it was begun or ended from here
 */
export function drainCard(changed) {
  const said = el("p");
  const end = timeElement(new Date(0).toISOString(), "left");
  const until = el("p", {}, "It ends by itself ", end, ".");
  const work = el("p");
  const start = el("button", { type: "button", click: () => begin(changed) }, "Start a drain…");
  const stop = el("button", { type: "button", class: "main", click: () => finish(changed) }, "End the drain");
  const node = el(
    "section",
    { class: "card drain", "aria-labelledby": "drain" },
    el("h2", { id: "drain" }, "Drain"),
    said,
    until,
    work,
    el("div", { class: "actions" }, start, stop),
  );
  return {
    node,
    /** @param {Drain} drain */
    update(drain) {
      setAttribute(node, "data-draining", drain.draining);
      refill(said, ...wordsFor(drain));
      show(until, drain.until);
      if (drain.until) tell(end, drain.until);
      refill(work, ...workOf(drain));
      show(start, !drain.draining);
      show(stop, drain.draining);
    },
  };
}

/** @param {Drain} drain */
function wordsFor({ draining, safe_to_stop }) {
  if (!draining) return ["Jobs are created and given out."];
  const safe = safe_to_stop
    ? "No worker holds a job: it is safe to stop."
    : "Workers hold jobs: it is not safe to stop yet.";
  return [el("strong", {}, "Draining. "), "No job is created or given out. ", el("strong", {}, safe)];
}

/** @param {Drain} drain */
function workOf({ running, leased, oldest }) {
  const words = `${running.toLocaleString()} running, ${leased.toLocaleString()} of them under a live lease`;
  if (!oldest) return [`${words}.`];
  return [`${words}; the oldest is `, el("a", { class: "id", href: toJob(oldest.job_id) }, oldest.job_id), "."];
}

/** @param {() => void} changed */
async function begin(changed) {
  const said = await question({
    title: "Start a drain",
    text: "Until it ends no job is created or given out, in all replicas. Running jobs go on.",
    action: "Start the drain",
    field: { label: "Minutes", type: "number", value: HALF_AN_HOUR, min: 1, max: MOST_MINUTES, required: true },
  });
  if (!said) return;
  await attempt(async () => {
    await send("POST", "v1/drain", { seconds: Number(said.value) * 60 });
    say("The drain has begun.");
    changed();
  });
}

/** @param {() => void} changed */
async function finish(changed) {
  await attempt(async () => {
    await send("DELETE", "v1/drain");
    say("The drain is over: jobs are given out again.");
    changed();
  });
}
