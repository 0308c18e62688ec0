/** The queues, and what an operator can do with each. */

import { toJobs } from "./router.js";
import { send } from "./api.js";
import { question } from "./dialog.js";
import { el, fill, Parts, show, write } from "./dom.js";
import { attempt, say } from "./toasts.js";

/** @typedef {import("./model.js").Queue} Queue */
/** @typedef {{paused: boolean} | {max_running: number | null}} Setting */

const MOST = 1_000_000;
/** What is counted of each, in the order of the columns. */
const COUNTED = ["pending", "running", "completed", "failed"];
const HEADS = [
  ["Queue", ""],
  ["Pending", "number"],
  ["Running", "number"],
  ["Completed", "number wide"],
  ["Failed", "number wide"],
  ["Controls", ""],
];

/**
 * The table of queues.
 * @param {() => void} changed what to do when a queue was changed from here
 */
export function queueTable(changed) {
  const body = el("tbody");
  const parts = new Parts(
    body,
    (/** @type {Queue} */ queue) => queue.queue,
    (queue) => row(queue, changed),
  );
  const heads = HEADS.map(([name, kind]) =>
    el("th", { scope: "col", class: kind }, name === "Controls" ? el("span", { class: "unseen" }, name) : name),
  );
  const table = el("table", { class: "queues" }, el("thead", {}, el("tr", {}, ...heads)), body);
  const none = el("p", { class: "quiet" }, "A queue is there as soon as a job is in it.");
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "queues" },
    el("h2", { id: "queues" }, "Queues"),
    none,
    table,
  );
  return {
    node,
    /** @param {Queue[]} queues */
    update(queues) {
      show(none, queues.length === 0);
      show(table, queues.length > 0);
      parts.show(queues);
    },
  };
}

/**
 * @param {Queue} first
 * @param {() => void} changed
 */
function row(first, changed) {
  let queue = first;
  const name = queue.queue;
  const paused = el("span", { class: "badge paused" }, "paused");
  const links = COUNTED.map((status) => el("a", { class: "plain", href: toJobs({ queue: name, status }) }));
  const cap = el("span", { class: "quiet" });
  const set = (/** @type {Setting} */ setting, /** @type {string} */ done) =>
    attempt(async () => {
      await send("PUT", `v1/queues/${encodeURIComponent(name)}`, setting);
      say(`${name}: ${done}.`);
      changed();
    });
  const toggle = el("button", {
    type: "button",
    class: "small",
    click: () => set({ paused: !queue.paused }, queue.paused ? "gives out jobs again" : "paused"),
  });
  const limit = el(
    "button",
    { type: "button", class: "small", click: () => askForCap(queue, set) },
    "Cap…",
    el("span", { class: "unseen" }, ` ${name}`),
  );
  const node = el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", { class: "id", href: toJobs({ queue: name }) }, name), " ", paused),
    ...links.map((link, at) => el("td", { class: HEADS[at + 1]?.[1] }, link, COUNTED[at] === "running" && cap)),
    el("td", { class: "actions" }, toggle, limit),
  );
  return {
    node,
    /** @param {Queue} now */
    update(now) {
      queue = now;
      for (const [at, link] of links.entries()) write(link, (now.statuses[COUNTED[at] ?? ""] ?? 0).toLocaleString());
      write(cap, now.max_running ? ` of ${now.max_running.toLocaleString()}` : "");
      show(paused, now.paused);
      fill(toggle, now.paused ? "Resume" : "Pause", el("span", { class: "unseen" }, ` ${name}`));
    },
  };
}

/**
 * @param {Queue} queue
 * @param {(setting: Setting, done: string) => void} set
 */
async function askForCap(queue, set) {
  const said = await question({
    title: `Cap ${queue.queue}`,
    text: "No more of its jobs are given out at one time.",
    action: "Set the cap",
    field: {
      label: "Running at most",
      type: "number",
      value: String(queue.max_running ?? ""),
      min: 1,
      max: MOST,
      required: true,
    },
    ...(queue.max_running ? { other: "Lift the cap" } : {}),
  });
  if (said?.action === "other") set({ max_running: null }, "has no cap");
  else if (said) set({ max_running: Number(said.value) }, `at most ${said.value} run`);
}
