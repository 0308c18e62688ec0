/** The page: which view the address asks for, whether the service is there, and the few keys that work everywhere. */

import { routeOf, toJob } from "./router.js";
import { ask, jobPath, Problem } from "./api.js";
import { emptiness } from "./components.js";
import { Connection } from "./connection-status.js";
import { byId, el, fill, setAttribute, write } from "./dom.js";
import { hasKey, onTurnedAway } from "./api-key.js";
import { attempt } from "./toasts.js";
import { overview } from "./overview.js";
import { tickAll, timeOfDay } from "./time.js";

/** @typedef {import("./router.js").Route} Route */
/** @typedef {{node: HTMLElement, title: string, show: (route: Route) => void, refresh: () => void, tick: () => void, close: () => void}} View */

const connection = new Connection();
/** @type {{view: View | null, name: string, turn: number}} */
const shown = { view: null, name: "", turn: 0 };

/** @param {Route} route @returns {Promise<View>} */
async function viewFor(route) {
  if (route.view === "overview") return overview(connection);
  if (route.view === "jobs") return (await import("./jobs.js")).jobs(connection);
  if (route.view === "job") return (await import("./job.js")).job(connection, route.id);
  const node = el(
    "div",
    { class: "view" },
    el("h1", { tabindex: -1 }, "There is no such view"),
    emptiness("The address leads nowhere", el("p", {}, el("a", { href: "#/" }, "To the overview"))),
  );
  return { node, title: "No such view", show() {}, refresh() {}, tick() {}, close() {} };
}

async function navigate() {
  const route = routeOf(location.hash);
  const name = `${route.view} ${route.id}`;
  const turn = ++shown.turn;
  if (name !== shown.name) {
    const isFirst = shown.view === null;
    const view = await viewFor(route);
    if (turn !== shown.turn) return view.close();
    shown.view?.close();
    Object.assign(shown, { view, name });
    fill(byId("main"), view.node);
    document.title = `${view.title} · jobstate`;
    if (!isFirst) arrive(view.node);
  }
  markCurrent(route);
  shown.view?.show(route);
}

/** Begin at the top of a new view, also for who hears it. @param {HTMLElement} node */
function arrive(node) {
  scrollTo({ top: 0 });
  node.querySelector("h1")?.focus({ preventScroll: true });
}

/** @param {Route} route */
function markCurrent(route) {
  const current = route.view === "job" ? "jobs" : route.view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    setAttribute(
      link,
      "aria-current",
      link.getAttribute("data-view") === current ? (route.view === "job" ? "true" : "page") : null,
    );
  }
}

/** @type {Record<import("./connection-status.js").Standing["state"], string>} */
const STANDINGS = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost",
  away: "Redis is away",
  deaf: "No live updates",
};

connection.subscribe(({ state, detail, since }, before) => {
  setAttribute(byId("pulse"), "data-state", state);
  write(byId("pulse"), STANDINGS[state]);
  write(byId("banner"), bannerFor(state, detail, since));
  const wasTrouble = before.state === "lost" || before.state === "away";
  if (state === "live" && wasTrouble) shown.view?.refresh();
});

/**
 * @param {string} state
 * @param {string} detail
 * @param {number} since
 */
function bannerFor(state, detail, since) {
  const at = timeOfDay(since, true);
  if (state === "lost")
    return `The connection was lost at ${at}. What is shown is from before; it comes back by itself.`;
  if (state === "away")
    return `Jobs cannot be served since ${at}: ${detail} What is shown is from before; it comes back by itself.`;
  return state === "deaf"
    ? "The service is there, but sends no events to this page: too many may be watching. It is asked again by itself."
    : "";
}

/** @param {SubmitEvent} event */
async function find(event) {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("find-id"));
  const id = field.value.trim();
  if (!id) return;
  await attempt(async () => {
    try {
      await ask("GET", jobPath(id));
    } catch (error) {
      if (!(error instanceof Problem) || error.status === 503) throw error;
      write(byId("find-said"), error.status === 404 ? `There is no job ${id}.` : "No job has such an id.");
      return;
    }
    field.value = "";
    write(byId("find-said"), "");
    location.hash = toJob(id);
  });
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const isTyping = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("find-id").focus();
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  byId("main").focus();
}

byId("find").addEventListener("submit", find);
byId("find").addEventListener("input", () => write(byId("find-said"), ""));
byId("skip").addEventListener("click", skip);
addEventListener("keydown", onKey);
addEventListener("hashchange", navigate);
addEventListener("online", () => connection.look());
addEventListener("offline", () => connection.look());
document.addEventListener("visibilitychange", () => connection.look());
setInterval(() => {
  tickAll();
  shown.view?.tick();
}, 1000);
onTurnedAway(async (words) => (await import("./api-key-dialog.js")).turnedAway(words));
if (hasKey()) import("./api-key-dialog.js");
connection.look();
navigate();
