/** The list of jobs: as it was read, with each row kept as it is now; what is new waits until it is asked for. */

import { FILTERS, toJobs } from "./router.js";
import { isPassing, Problem, send } from "./api.js";
import { emptiness } from "./components.js";
import { el, fill, setAttribute, show, write } from "./dom.js";
import { filterForm, filtersOf } from "./filters.js";
import { firstJob } from "./onboarding.js";
import { say } from "./toasts.js";
import { readPage, ROWS } from "./pagination.js";
import { Refresher } from "./poller.js";
import { jobTable } from "./job-table.js";
import { Stream } from "./event-stream.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./model.js").JobEvent} JobEvent */
/** @typedef {import("./job-table.js").Row} Row */

const MOST_NEW = 999;
/** How many ms the rows wait for the stream: read before it is open, they would miss what happens in between. */
const UNHEARD = 1000;

/** Makes the view. @param {import("./connection-status.js").Connection} connection */
export function jobs(connection) {
  const list = new List(connection);
  return {
    node: list.node,
    title: "Jobs",
    show: (/** @type {import("./router.js").Route} */ { asked }) => list.show(asked),
    refresh: () => list.refresh(),
    tick: () => {},
    close: () => list.close(),
  };
}

class List {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #new = new Set();
  #touched = new Set();
  #filters = filtersOf(new URLSearchParams());
  #cursor = "";
  /** @type {string | null} */
  #next = null;
  /** Where each page's newer one begins, of those that were seen. @type {Map<string, string>} */
  #newer = new Map();
  /** @type {Stream | null} */
  #stream = null;
  #unheard = 0;
  #form = filterForm();
  #table = jobTable();
  #count = el("p", { class: "quiet number" });
  #fresh = el("button", { type: "button", class: "main fresh", hidden: true, click: () => this.#toNewest() });
  #announced = el("p", { class: "unseen", role: "status" });
  #empty = el("div");
  #pager = el("nav", { class: "pager", "aria-label": "Pages" });
  #heading = el("h1", { tabindex: -1 }, "Jobs");

  /** @param {import("./connection-status.js").Connection} connection */
  constructor(connection) {
    this.connection = connection;
    this.again = new Refresher(
      () => this.#readTouched(),
      { atMost: 1000 },
      () => connection.look(),
    );
    this.page = new Refresher(
      () => this.#load(),
      { atMost: 2000 },
      (error) => this.#failed(error),
    );
    this.node = el(
      "div",
      { class: "view" },
      el("header", { class: "heading" }, this.#heading, this.#count),
      this.#form.node,
      el("div", { class: "freshness" }, this.#fresh, this.#announced),
      this.#table.node,
      this.#empty,
      this.#pager,
    );
  }

  /** @param {URLSearchParams} asked */
  show(asked) {
    const before = this.#filters;
    const turned = this.#cursor !== (asked.get("cursor") ?? "");
    this.#filters = filtersOf(asked);
    this.#cursor = asked.get("cursor") ?? "";
    if (FILTERS.some((name) => before[name] !== this.#filters[name])) this.#new.clear();
    this.#form.update(this.#filters);
    if (!this.#stream || before.queue !== this.#filters.queue || before.slate_id !== this.#filters.slate_id)
      this.#listen();
    else this.page.now();
    if (turned) this.#toTop();
  }

  /** Read everything again that is shown. */
  refresh() {
    for (const id of this.#rows.keys()) this.#touched.add(id);
    if (this.#rows.size > 0) this.again.now();
    else this.page.now();
  }

  close() {
    clearTimeout(this.#unheard);
    this.#stream?.close();
    this.again.stop();
    this.page.stop();
  }

  /** Listen to a stream, and read the rows once it is open; without it where it does not open. */
  #listen() {
    this.#stream?.close();
    clearTimeout(this.#unheard);
    this.#unheard = setTimeout(() => this.#read(), UNHEARD);
    const { queue, slate_id } = this.#filters;
    const filters = new URLSearchParams(Object.entries({ queue, slate_id }).filter(([, value]) => value));
    this.#stream = new Stream(this.connection, () => `v1/events?${filters}`, {
      changed: (event) => this.#changed(event),
      deleted: (event) => this.#ended(event, "deleted"),
      expired: (event) => this.#ended(event, "expired"),
      opened: () => this.#read(),
      refused: () => this.#unheard && this.#read(),
      reset: () => this.#missed(),
      again: () => this.#missed(),
    });
  }

  #read() {
    clearTimeout(this.#unheard);
    this.#unheard = 0;
    this.page.now();
  }

  async #load() {
    const [filters, cursor] = [this.#filters, this.#cursor];
    setAttribute(this.#table.node, "aria-busy", "true");
    const page = await readPage(filters, cursor);
    if (filters !== this.#filters || cursor !== this.#cursor) return;
    if (!cursor) this.#new.clear();
    this.#rows = new Map(page.jobs.map((job) => [job.job_id, { job, fate: "", fits: true }]));
    this.#next = page.next;
    if (page.next) this.#newer.set(page.next, cursor);
    write(this.#count, countOf(page.jobs.length, page.total));
    this.#draw();
    setAttribute(this.#table.node, "aria-busy", null);
  }

  /** @param {unknown} error */
  #failed(error) {
    if (isPassing(error) || !(error instanceof Problem)) {
      this.connection.look();
      return;
    }
    this.#stream?.close();
    this.#stream = null;
    this.#rows.clear();
    this.#next = null;
    write(this.#count, "");
    this.#draw();
    const back = el("p", {}, el("a", { href: toJobs() }, "Show all jobs"));
    fill(this.#empty, emptiness("The service refuses this", el("p", {}, error.message), back));
  }

  #draw() {
    const isEmpty = this.#rows.size === 0;
    this.#table.update(this.#rows.values());
    show(this.#table.node, !isEmpty);
    fill(this.#empty, isEmpty && this.#emptiness());
    fill(this.#pager, ...this.#links());
    this.#announce();
  }

  #emptiness() {
    if (this.#next)
      return emptiness(
        "None among these",
        el("p", {}, "The jobs that were looked through do not match. “Older” looks on."),
      );
    if (this.#cursor) return emptiness("There is nothing older");
    const isFiltered = Object.values(this.#filters).some(Boolean);
    if (!isFiltered) return firstJob();
    return emptiness(
      "No job matches",
      el(
        "p",
        {},
        "They come in here by themselves when there are some. ",
        el("a", { href: toJobs() }, "Show all jobs"),
      ),
    );
  }

  #links() {
    const newer = this.#newer.get(this.#cursor);
    return [
      this.#cursor && el("a", { class: "button", href: toJobs(this.#filters) }, "Newest"),
      newer && el("a", { class: "button", href: toJobs({ ...this.#filters, cursor: newer }) }, "Newer"),
      this.#next &&
        el("a", { class: "button", rel: "next", href: toJobs({ ...this.#filters, cursor: this.#next }) }, "Older"),
    ];
  }

  /** @param {JobEvent} event */
  #changed(event) {
    const row = this.#rows.get(event.job_id);
    if (row) {
      if (event.revision > row.job.revision || row.fate) this.#touch(event.job_id);
    } else if (this.#isNew(event)) {
      if (this.#rows.size === 0 && !this.#cursor) this.page.soon();
      else if (this.#filters.correlation_id) this.#touch(event.job_id);
      else this.#arrived(event.job_id);
    }
  }

  /** @param {JobEvent} event */
  #isNew({ status, revision, created_at }) {
    const wanted = this.#filters.status;
    if (!wanted) return revision === 1;
    const last = [...this.#rows.values()].at(-1);
    const wouldBeHere = this.#rows.size < ROWS || !last || !created_at || created_at > last.job.created_at;
    return status === wanted && wouldBeHere && !this.#cursor;
  }

  /** @param {string} id */
  #arrived(id) {
    if (this.#new.size <= MOST_NEW) this.#new.add(id);
    this.#announce();
  }

  /** @param {JobEvent} event @param {"deleted" | "expired"} fate */
  #ended({ job_id }, fate) {
    this.#new.delete(job_id);
    const row = this.#rows.get(job_id);
    if (row) row.fate = fate;
    this.#table.update(this.#rows.values());
    this.#announce();
  }

  /** @param {string} id */
  #touch(id) {
    this.#touched.add(id);
    this.again.soon();
  }

  /** Read the jobs again that have changed, and change their rows where they are. */
  async #readTouched() {
    const ids = [...this.#touched].slice(0, ROWS);
    if (ids.length === 0) return;
    const { items, not_found } = await send("POST", "v1/batch-get", { job_ids: ids });
    for (const id of ids) this.#touched.delete(id);
    for (const job of items) this.#take(job);
    for (const id of not_found) if (this.#rows.has(id)) /** @type {Row} */ (this.#rows.get(id)).fate ||= "deleted";
    this.#table.update(this.#rows.values());
    if (this.#touched.size > 0) this.again.soon();
  }

  /** @param {Job} job */
  #take(job) {
    const row = this.#rows.get(job.job_id);
    const { status, correlation_id } = this.#filters;
    if (row) Object.assign(row, { job, fate: "", fits: !status || job.status === status });
    else if (job.correlation_id === correlation_id) this.#arrived(job.job_id);
  }

  /** Events were missed: what is shown is read again, and there may be new jobs. */
  #missed() {
    this.refresh();
  }

  #announce() {
    const count = this.#new.size;
    show(this.#fresh, count > 0);
    write(this.#fresh, `${count > MOST_NEW ? `${MOST_NEW}+` : count} new ${count === 1 ? "job" : "jobs"}`);
    write(this.#announced, count > 0 ? "There are new jobs." : "");
  }

  #toNewest() {
    this.#toTop();
    if (this.#cursor) location.hash = toJobs(this.#filters);
    else this.page.now();
    say("The newest jobs are shown.");
  }

  #toTop() {
    scrollTo({ top: 0 });
    this.#heading.focus({ preventScroll: true });
  }
}

/**
 * @param {number} shown
 * @param {number | null} total
 */
function countOf(shown, total) {
  if (total === null || total <= shown) return shown === 1 ? "1 job" : `${shown.toLocaleString()} jobs`;
  return `${shown.toLocaleString()} of ${total.toLocaleString()} jobs, newest first`;
}
