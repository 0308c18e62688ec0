/** The state of the drain, and the buttons that start and stop it. */

import { sendJson } from "./api.js";
import { openDialog } from "./dialog.js";
import { el, fillIfChanged, setAttribute, show } from "./dom.js";
import { jobHref } from "./router.js";
import { setTime, timeElement } from "./time.js";
import { toast, withErrorToast } from "./toasts.js";

/** @typedef {import("./model.js").Drain} Drain */

const DEFAULT_MINUTES = "30";
const MAX_MINUTES = 1440;

/**
 * Return the card of the drain.
 * @param {() => void} onChange called after a drain was started or stopped here
 */
export function drainCard(onChange) {
  const status = el("p");
  const end = timeElement(new Date(0).toISOString(), "left");
  const until = el("p", {}, "Ends automatically ", end, ".");
  const running = el("p");
  const start = el("button", { type: "button", click: () => startDrain(onChange) }, "Start drain…");
  const stop = el("button", { type: "button", class: "primary", click: () => stopDrain(onChange) }, "Stop drain");
  const node = el(
    "section",
    { class: "card drain", "aria-labelledby": "drain" },
    el("h2", { id: "drain" }, "Drain"),
    status,
    until,
    running,
    el("div", { class: "actions" }, start, stop),
  );
  return {
    node,
    /** @param {Drain} drain */
    update(drain) {
      setAttribute(node, "data-draining", drain.draining);
      fillIfChanged(status, ...statusText(drain));
      show(until, drain.until);
      if (drain.until) setTime(end, drain.until);
      fillIfChanged(running, ...runningText(drain));
      show(start, !drain.draining);
      show(stop, drain.draining);
    },
  };
}

/** @param {Drain} drain */
function statusText({ draining, safe_to_stop }) {
  if (!draining) return ["Off. Jobs can be created and claimed."];
  const safe = safe_to_stop ? "Safe to stop: no worker holds a job." : "Not safe to stop: workers still hold jobs.";
  return [el("strong", {}, "Draining. "), "Jobs cannot be created or claimed. ", el("strong", {}, safe)];
}

/** @param {Drain} drain */
function runningText({ running, leased, oldest }) {
  const counts = `${running.toLocaleString()} running, ${leased.toLocaleString()} of them with an active lease.`;
  if (!oldest) return [counts];
  return [`${counts} Oldest: `, el("a", { class: "id", href: jobHref(oldest.job_id) }, oldest.job_id), "."];
}

/** @param {() => void} onChange */
async function startDrain(onChange) {
  const result = await openDialog({
    title: "Start drain",
    text: "No job can be created or claimed during a drain, on any replica. Running jobs continue.",
    action: "Start drain",
    field: { label: "Minutes", type: "number", value: DEFAULT_MINUTES, min: 1, max: MAX_MINUTES, required: true },
  });
  if (!result) return;
  await withErrorToast(async () => {
    await sendJson("POST", "v1/drain", { seconds: Number(result.value) * 60 });
    toast("Drain started.");
    onChange();
  });
}

/** @param {() => void} onChange */
async function stopDrain(onChange) {
  await withErrorToast(async () => {
    await sendJson("DELETE", "v1/drain");
    toast("Drain stopped.");
    onChange();
  });
}
