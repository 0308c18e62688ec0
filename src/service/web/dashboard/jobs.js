/** The list of jobs. Rows change in place; new jobs are counted and appear on request. */

import { isTransient, Problem, sendJson } from "./api.js";
import { emptyState } from "./components.js";
import { el, fill, setAttribute, setText, show } from "./dom.js";
import { EventStream } from "./event-stream.js";
import { filterForm, isFiltered, parseFilters } from "./filters.js";
import { jobTable } from "./job-table.js";
import { onboarding } from "./onboarding.js";
import { countText, PAGE_SIZE, readPage } from "./pagination.js";
import { Poller } from "./poller.js";
import { buildQuery, jobsHref } from "./router.js";
import { Selection } from "./selection.js";
import { toast } from "./toasts.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./model.js").JobEvent} JobEvent */
/** @typedef {import("./job-table.js").Row} Row */

const MAX_NEW = 999;
/** How many ms a page waits for the stream to open. Rows that are read before would miss the changes in between. */
const STREAM_TIMEOUT = 1000;

/** Return the view. @param {import("./connection-status.js").ConnectionStatus} connection */
export function jobs(connection) {
  const list = new JobList(connection);
  return {
    node: list.node,
    title: "Jobs",
    show: (/** @type {import("./router.js").Route} */ { params }) => list.show(params),
    refresh: () => list.refresh(),
    tick: () => {},
    close: () => list.close(),
  };
}

class JobList {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #newIds = new Set();
  #changedIds = new Set();
  #filters = parseFilters(new URLSearchParams());
  #cursor = "";
  /** @type {string | null} */
  #next = null;
  /** The cursor of the page before each page that was shown. @type {Map<string, string>} */
  #previousCursors = new Map();
  /** @type {EventStream | null} */
  #stream = null;
  #streamTimer = 0;
  #form = filterForm();
  #table = jobTable();
  #selection = new Selection(this.#table.node);
  #count = el("p", { class: "muted number" });
  #newButton = el("button", { type: "button", class: "primary new", hidden: true, click: () => this.#showNewest() });
  #announcement = el("p", { class: "visually-hidden", role: "status" });
  #empty = el("div");
  #pagination = el("nav", { class: "pagination", "aria-label": "Pages" });
  #heading = el("h1", { tabindex: -1 }, "Jobs");

  /** @param {import("./connection-status.js").ConnectionStatus} connection */
  constructor(connection) {
    this.connection = connection;
    this.rowPoller = new Poller(
      () => this.#rereadChanged(),
      { minInterval: 1000 },
      () => connection.check(),
    );
    this.pagePoller = new Poller(
      () => this.#readPage(),
      { minInterval: 2000 },
      (error) => this.#onError(error),
    );
    this.node = el(
      "div",
      { class: "view" },
      el(
        "header",
        { class: "heading" },
        this.#heading,
        this.#count,
        el("a", { href: "#/bulk-actions" }, "Bulk actions"),
      ),
      this.#form.node,
      el("div", { class: "new-jobs" }, this.#newButton, this.#announcement),
      this.#selection.node,
      this.#table.node,
      this.#empty,
      this.#pagination,
    );
  }

  /** @param {URLSearchParams} params */
  show(params) {
    const previous = this.#filters;
    const isOtherPage = this.#cursor !== (params.get("cursor") ?? "");
    this.#filters = parseFilters(params);
    this.#cursor = params.get("cursor") ?? "";
    if (buildQuery(previous) !== buildQuery(this.#filters)) this.#newIds.clear();
    this.#form.update(this.#filters);
    if (!this.#stream || streamQuery(previous) !== streamQuery(this.#filters)) this.#openStream();
    else this.pagePoller.now();
    if (isOtherPage) this.#scrollToTop();
  }

  /** Read all rows again. */
  refresh() {
    for (const id of this.#rows.keys()) this.#changedIds.add(id);
    if (this.#rows.size > 0) this.rowPoller.now();
    else this.pagePoller.now();
  }

  close() {
    clearTimeout(this.#streamTimer);
    this.#stream?.close();
    this.#selection.close();
    this.rowPoller.stop();
    this.pagePoller.stop();
  }

  /** Open a stream and read the page when it is open, or when it fails to open. */
  #openStream() {
    this.#stream?.close();
    clearTimeout(this.#streamTimer);
    this.#streamTimer = setTimeout(() => this.#startReading(), STREAM_TIMEOUT);
    const query = streamQuery(this.#filters);
    this.#stream = new EventStream(this.connection, () => `v1/events?${query}`, {
      changed: (event) => this.#onChanged(event),
      deleted: (event) => this.#onRemoved(event, "deleted"),
      expired: (event) => this.#onRemoved(event, "expired"),
      onOpen: () => this.#startReading(),
      onRejected: () => this.#streamTimer && this.#startReading(),
      reset: () => this.refresh(),
      onGap: () => this.refresh(),
    });
  }

  #startReading() {
    clearTimeout(this.#streamTimer);
    this.#streamTimer = 0;
    this.pagePoller.now();
  }

  async #readPage() {
    const [filters, cursor] = [this.#filters, this.#cursor];
    setAttribute(this.#table.node, "aria-busy", "true");
    const page = await readPage(filters, cursor);
    if (filters !== this.#filters || cursor !== this.#cursor) return;
    if (!cursor) this.#newIds.clear();
    this.#rows = new Map(page.jobs.map((job) => [job.job_id, { job, removal: "", matches: true }]));
    this.#next = page.next;
    if (page.next) this.#previousCursors.set(page.next, cursor);
    setText(this.#count, countText(page.jobs.length, page.total));
    this.#draw();
    setAttribute(this.#table.node, "aria-busy", null);
  }

  /** @param {unknown} error */
  #onError(error) {
    if (isTransient(error) || !(error instanceof Problem)) {
      this.connection.check();
      return;
    }
    this.#stream?.close();
    this.#stream = null;
    this.#rows.clear();
    this.#next = null;
    setText(this.#count, "");
    this.#draw();
    const link = el("p", {}, el("a", { href: jobsHref() }, "Show all jobs"));
    fill(this.#empty, emptyState("Request rejected", el("p", {}, error.message), link));
  }

  #draw() {
    const isEmpty = this.#rows.size === 0;
    this.#updateTable();
    show(this.#table.node, !isEmpty);
    fill(this.#empty, isEmpty && this.#emptyState());
    fill(this.#pagination, ...this.#pageLinks());
    this.#updateNewButton();
  }

  #updateTable() {
    this.#table.update(this.#rows.values());
    this.#selection.update(this.#filters, Boolean(this.#next || this.#cursor));
  }

  #emptyState() {
    if (this.#next) {
      const text = "None of the jobs checked so far match. Choose “Older” to check more.";
      return emptyState("No matching jobs yet", el("p", {}, text));
    }
    if (this.#cursor) return emptyState("No older jobs");
    if (!isFiltered(this.#filters)) return onboarding();
    const link = el("a", { href: jobsHref() }, "Show all jobs");
    return emptyState("No matching jobs", el("p", {}, "Matching jobs appear here automatically. ", link));
  }

  #pageLinks() {
    const newer = this.#previousCursors.get(this.#cursor);
    return [
      this.#cursor && el("a", { class: "button", href: jobsHref(this.#filters) }, "Newest"),
      newer && el("a", { class: "button", href: jobsHref({ ...this.#filters, cursor: newer }) }, "Newer"),
      this.#next &&
        el("a", { class: "button", rel: "next", href: jobsHref({ ...this.#filters, cursor: this.#next }) }, "Older"),
    ];
  }

  /** @param {JobEvent} event */
  #onChanged(event) {
    const row = this.#rows.get(event.job_id);
    if (row) {
      if ((event.revision ?? 0) > row.job.revision || row.removal) this.#reread(event.job_id);
    } else if (this.#isNew(event)) {
      if (this.#rows.size === 0 && !this.#cursor) this.pagePoller.soon();
      else if (this.#filters.correlation_id) this.#reread(event.job_id);
      else this.#addNew(event.job_id);
    }
  }

  /** @param {JobEvent} event */
  #isNew({ status, revision, created_at }) {
    const filter = this.#filters.status;
    if (!filter) return revision === 1;
    const last = [...this.#rows.values()].at(-1);
    const belongsToPage = this.#rows.size < PAGE_SIZE || !last || !created_at || created_at > last.job.created_at;
    return status === filter && belongsToPage && !this.#cursor;
  }

  /** @param {string} id */
  #addNew(id) {
    if (this.#newIds.size <= MAX_NEW) this.#newIds.add(id);
    this.#updateNewButton();
  }

  /** @param {JobEvent} event @param {"deleted" | "expired"} removal */
  #onRemoved({ job_id, created_at }, removal) {
    const row = this.#rows.get(job_id);
    if (row && created_at && created_at !== row.job.created_at) return; // the id was used again since
    this.#newIds.delete(job_id);
    if (row) row.removal = removal;
    this.#updateTable();
    this.#updateNewButton();
  }

  /** @param {string} id */
  #reread(id) {
    this.#changedIds.add(id);
    this.rowPoller.soon();
  }

  /** Read the jobs that have changed and update their rows in place. */
  async #rereadChanged() {
    const ids = [...this.#changedIds].slice(0, PAGE_SIZE);
    if (ids.length === 0) return;
    const { items, not_found } = await sendJson("POST", "v1/batch-get", { job_ids: ids });
    for (const id of ids) this.#changedIds.delete(id);
    for (const job of items) this.#updateRow(job);
    for (const id of not_found) if (this.#rows.has(id)) /** @type {Row} */ (this.#rows.get(id)).removal ||= "deleted";
    this.#updateTable();
    if (this.#changedIds.size > 0) this.rowPoller.soon();
  }

  /** @param {Job} job */
  #updateRow(job) {
    const row = this.#rows.get(job.job_id);
    const { status, correlation_id } = this.#filters;
    if (row) Object.assign(row, { job, removal: "", matches: !status || job.status === status });
    else if (job.correlation_id === correlation_id) this.#addNew(job.job_id);
  }

  #updateNewButton() {
    const count = this.#newIds.size;
    show(this.#newButton, count > 0);
    setText(this.#newButton, `${count > MAX_NEW ? `${MAX_NEW}+` : count} new ${count === 1 ? "job" : "jobs"}`);
    setText(this.#announcement, count > 0 ? "New jobs available." : "");
  }

  #showNewest() {
    this.#scrollToTop();
    if (this.#cursor) location.hash = jobsHref(this.#filters);
    else this.pagePoller.now();
    toast("Showing the newest jobs.");
  }

  #scrollToTop() {
    scrollTo({ top: 0 });
    this.#heading.focus({ preventScroll: true });
  }
}

/** Return the filters of the event stream. @param {import("./filters.js").Filters} filters */
function streamQuery({ queue, slate_id, label }) {
  return buildQuery({ queue, slate_id, label });
}
