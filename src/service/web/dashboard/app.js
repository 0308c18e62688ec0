/** Entry point: shows the view of the address, the connection status, the search and the keyboard shortcuts. */

import { jobPath, Problem, request } from "./api.js";
import { hasKey, onUnauthorized } from "./api-key.js";
import { emptyState } from "./components.js";
import { ConnectionStatus } from "./connection-status.js";
import { byId, el, fill, setAttribute, setText } from "./dom.js";
import { overview } from "./overview.js";
import { jobHref, parseRoute } from "./router.js";
import { tickAll, timeOfDay } from "./time.js";
import { withErrorToast } from "./toasts.js";

/** @typedef {import("./router.js").Route} Route */
/** @typedef {{node: HTMLElement, title: string, show: (route: Route) => void, refresh: () => void, tick: () => void, close: () => void}} View */

const connection = new ConnectionStatus();
/** The counter shows whether another navigation began while a view was loading. */
/** @type {{view: View | null, name: string, navigations: number}} */
const current = { view: null, name: "", navigations: 0 };

/** @param {Route} route @returns {Promise<View>} */
async function createView(route) {
  if (route.view === "overview") return overview(connection);
  if (route.view === "jobs") return (await import("./jobs.js")).jobs(connection);
  if (route.view === "job") return (await import("./job.js")).job(connection, route.id);
  if (route.view === "bulk-actions") return (await import("./bulk-actions.js")).bulkActions(connection);
  const link = el("p", {}, el("a", { href: "#/" }, "Go to the overview"));
  const node = el(
    "div",
    { class: "view" },
    el("h1", { tabindex: -1 }, "Page not found"),
    emptyState("No page has this address", link),
  );
  return { node, title: "Page not found", show() {}, refresh() {}, tick() {}, close() {} };
}

async function navigate() {
  const route = parseRoute(location.hash);
  const name = `${route.view} ${route.id}`;
  const navigation = ++current.navigations;
  if (name !== current.name) {
    const isFirst = current.view === null;
    const view = await createView(route);
    if (navigation !== current.navigations) return view.close();
    current.view?.close();
    Object.assign(current, { view, name });
    fill(byId("main"), view.node);
    document.title = `${view.title} · jobstate`;
    if (!isFirst) focusHeading(view.node);
  }
  markCurrentLink(route);
  current.view?.show(route);
}

/** Scroll to the top of a new view. Screen readers announce its heading. @param {HTMLElement} node */
function focusHeading(node) {
  scrollTo({ top: 0 });
  node.querySelector("h1")?.focus({ preventScroll: true });
}

/** @param {Route} route */
function markCurrentLink(route) {
  const isBelowJobs = route.view === "job" || route.view === "bulk-actions";
  const view = isBelowJobs ? "jobs" : route.view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    setAttribute(
      link,
      "aria-current",
      link.getAttribute("data-view") === view ? (isBelowJobs ? "true" : "page") : null,
    );
  }
}

/** @type {Record<import("./connection-status.js").Status["state"], string>} */
const STATUS_LABELS = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost",
  "redis-down": "Redis unavailable",
  "stream-down": "No live updates",
};

connection.subscribe(({ state, detail, since }, previous) => {
  setAttribute(byId("connection-status"), "data-state", state);
  setText(byId("connection-status"), STATUS_LABELS[state]);
  setText(byId("banner"), bannerText(state, detail, since));
  const wasDown = previous.state === "lost" || previous.state === "redis-down";
  if (state === "live" && wasDown) current.view?.refresh();
});

/**
 * @param {string} state
 * @param {string} detail
 * @param {number} since
 */
function bannerText(state, detail, since) {
  const time = timeOfDay(since, true);
  if (state === "lost") return `Connection lost at ${time}. The data shown may be outdated. Reconnecting…`;
  if (state === "redis-down")
    return `Redis unavailable since ${time}: ${detail} The data shown may be outdated. Retrying…`;
  return state === "stream-down"
    ? "No live updates: the event stream is unavailable. Too many clients may be watching. Retrying…"
    : "";
}

/** @param {SubmitEvent} event */
async function findJob(event) {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("find-id"));
  const id = field.value.trim();
  if (!id) return;
  await withErrorToast(async () => {
    try {
      await request("GET", jobPath(id));
    } catch (error) {
      if (!(error instanceof Problem) || error.status === 503) throw error;
      setText(byId("find-message"), error.status === 404 ? `Job ${id} not found.` : "Invalid job ID.");
      return;
    }
    field.value = "";
    setText(byId("find-message"), "");
    location.hash = jobHref(id);
  });
}

/** @param {KeyboardEvent} event */
function onKeydown(event) {
  const isTyping = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("find-id").focus();
}

/** @param {Event} event */
function skipToContent(event) {
  event.preventDefault();
  byId("main").focus();
}

byId("find").addEventListener("submit", findJob);
byId("find").addEventListener("input", () => setText(byId("find-message"), ""));
byId("skip").addEventListener("click", skipToContent);
addEventListener("keydown", onKeydown);
addEventListener("hashchange", navigate);
addEventListener("online", () => connection.check());
addEventListener("offline", () => connection.check());
document.addEventListener("visibilitychange", () => connection.check());
setInterval(() => {
  tickAll();
  current.view?.tick();
}, 1000);
onUnauthorized(async (message) => (await import("./api-key-dialog.js")).promptUnlessDismissed(message));
if (hasKey()) import("./api-key-dialog.js");
connection.check();
navigate();
