/** The view of one job. It follows the job until it is finished. */

import { actions } from "./actions.js";
import { getJson, isTransient, jobPath, Problem, request } from "./api.js";
import { emptyState, progressBar, staleBadge, statusBadge } from "./components.js";
import { el, fill, fillIfChanged, setText, show } from "./dom.js";
import { EventStream } from "./event-stream.js";
import { jobDetails } from "./job-details.js";
import { parseRecord } from "./job-record.js";
import { jsonView } from "./json-view.js";
import { isFinal } from "./model.js";
import { Poller } from "./poller.js";
import { jobsHref } from "./router.js";
import { timeline } from "./timeline.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./job-record.js").JobRecord} JobRecord */
/** @typedef {import("./job-record.js").RawFields} RawFields */

const SECTIONS = /** @type {const} */ ([
  ["error_message", "Error"],
  ["result", "Result"],
  ["input_params", "Input"],
]);

/** Return the view. @param {import("./connection-status.js").ConnectionStatus} connection @param {string} id */
export function job(connection, id) {
  const view = new JobView(connection, id);
  return {
    node: view.node,
    title: id,
    show: () => view.start(),
    refresh: () => view.recordPoller.now(),
    tick: () => {},
    close: () => view.close(),
  };
}

class JobView {
  /** @type {JobRecord | null} */
  #record = null;
  /** @type {EventStream | null} */
  #stream = null;
  /** @type {Map<string, {text: string, node: HTMLElement}>} */
  #sections = new Map();
  #badges = el("p", { class: "badges" });
  #progress = progressBar("Progress");
  #message = el("p", { class: "message" });
  #announcement = el("p", { class: "visually-hidden", role: "status" });
  #details = jobDetails();
  #timeline = timeline();
  #values = el("div", { class: "values" });
  #actions = actions(
    () => /** @type {JobRecord} */ (this.#record),
    () => this.recordPoller.now(),
  );

  /** @param {import("./connection-status.js").ConnectionStatus} connection @param {string} id */
  constructor(connection, id) {
    this.connection = connection;
    this.id = id;
    this.recordPoller = new Poller(
      () => this.#readRecord(),
      { minInterval: 500 },
      (error) => this.#onError(error),
    );
    this.historyPoller = new Poller(
      () => this.#readHistory(),
      { minInterval: 1000 },
      () => connection.check(),
    );
    this.body = el(
      "div",
      { hidden: true },
      this.#progress.node,
      this.#message,
      this.#actions.node,
      el("div", { class: "columns" }, this.#details.node, this.#timeline.node),
      this.#values,
    );
    this.missing = el("div");
    this.node = el(
      "div",
      { class: "view job" },
      el("nav", { "aria-label": "Breadcrumb" }, el("a", { href: jobsHref() }, "Jobs")),
      el("header", { class: "heading" }, el("h1", { tabindex: -1, class: "id" }, id), this.#badges),
      this.#announcement,
      this.missing,
      this.body,
    );
  }

  start() {
    this.recordPoller.now();
  }

  close() {
    this.#stream?.close();
    this.recordPoller.stop();
    this.historyPoller.stop();
  }

  /** Read the whole record: at the start, when the job is finished, and when events may have been missed. */
  async #readRecord() {
    const { text } = await request("GET", jobPath(this.id));
    this.#record = parseRecord(text);
    this.#draw();
    this.historyPoller.now();
    this.#openStream();
  }

  /** @param {unknown} error */
  #onError(error) {
    if (isTransient(error) || !(error instanceof Problem)) this.connection.check();
    else this.#showMissing(error.status === 404 ? "Job not found" : "Request rejected", error.message);
  }

  /** @param {string} title @param {string} text */
  #showMissing(title, text) {
    this.close();
    show(this.body, false);
    fill(this.#badges);
    const link = el("p", {}, el("a", { href: jobsHref() }, "Show all jobs"));
    fill(this.missing, emptyState(title, el("p", {}, text), link));
  }

  async #readHistory() {
    this.#timeline.update(await getJson(jobPath(this.id, "/history")));
  }

  #openStream() {
    const { job } = /** @type {JobRecord} */ (this.#record);
    if (isFinal(job.status)) return;
    if (this.#stream?.isFinished) {
      this.#stream.close(); // the job has been retried
      this.#stream = null;
    }
    if (this.#stream) return;
    this.#stream = new EventStream(this.connection, () => jobPath(this.id, "/events"), {
      changed: (job) => this.#onChanged(job),
      deleted: () => this.#showMissing("Job deleted", `${this.id} was deleted.`),
      expired: () => this.#showMissing("Job expired", `The retention of ${this.id} has ended.`),
      onGap: () => this.recordPoller.now(),
      onRejected: () => this.recordPoller.now(),
    });
  }

  /** @param {Job} job the record without the raw fields */
  #onChanged(job) {
    const { job: previous, raw } = /** @type {JobRecord} */ (this.#record);
    if (isFinal(job.status)) {
      this.#stream?.finish();
      this.recordPoller.now();
      return;
    }
    this.#record = { job, raw };
    this.#draw();
    if (
      job.status !== previous.status ||
      job.attempt !== previous.attempt ||
      job.cancel_requested_at !== previous.cancel_requested_at
    )
      this.historyPoller.soon();
  }

  #draw() {
    const { job, raw } = /** @type {JobRecord} */ (this.#record);
    const percent =
      job.status === "running" && job.progress?.total
        ? `${Math.floor((100 * job.progress.current) / job.progress.total)}% `
        : "";
    document.title = `${percent}${job.status}: ${job.job_id} · jobstate`;
    show(this.body, true);
    fill(this.missing);
    fillIfChanged(
      this.#badges,
      statusBadge(job.status),
      job.stale && staleBadge(),
      job.cancel_requested_at && !isFinal(job.status) && el("span", { class: "badge" }, "cancel requested"),
    );
    setText(this.#announcement, isFinal(job.status) ? `Job ${job.status}.` : "");
    this.#progress.update(job.status === "pending" ? undefined : job.progress);
    setText(this.#message, job.progress?.message ?? "");
    this.#actions.update(job);
    this.#details.update(job);
    this.#drawValues(raw);
  }

  /** An unchanged value keeps its element, and with it what is unfolded. @param {RawFields} raw */
  #drawValues(raw) {
    const nodes = [];
    for (const [field, name] of SECTIONS) {
      const text = raw[field];
      if (text === undefined) continue;
      const existing = this.#sections.get(field);
      const node = existing?.text === text ? existing.node : jsonView(name, text);
      this.#sections.set(field, { text, node });
      nodes.push(node);
    }
    const { children } = this.#values;
    if (nodes.length !== children.length || nodes.some((node, index) => node !== children[index]))
      fill(this.#values, ...nodes);
  }
}
