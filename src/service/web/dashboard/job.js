/** One job: followed until its end, with all that is known of it. */

import { toJobs } from "./router.js";
import { actions } from "./actions.js";
import { ask, isPassing, jobPath, Problem, read } from "./api.js";
import { badge, bar, emptiness, staleBadge } from "./components.js";
import { el, fill, refill, show, write } from "./dom.js";
import { facts } from "./job-details.js";
import { jsonView } from "./json-view.js";
import { isFinal, recordOf } from "./model.js";
import { Refresher } from "./poller.js";
import { Stream } from "./event-stream.js";
import { timeline } from "./timeline.js";

/** @typedef {import("./model.js").Job} Job */
/** @typedef {import("./model.js").Texts} Texts */

const SECTIONS = /** @type {const} */ ([
  ["error_message", "Error"],
  ["result", "Result"],
  ["input_params", "Input"],
]);

/** Makes the view. @param {import("./connection-status.js").Connection} connection @param {string} id */
export function job(connection, id) {
  const view = new JobView(connection, id);
  return {
    node: view.node,
    title: id,
    show: () => view.start(),
    refresh: () => view.record.now(),
    tick: () => {},
    close: () => view.close(),
  };
}

class JobView {
  /** @type {{job: Job, texts: Texts} | null} */
  #record = null;
  /** @type {Stream | null} */
  #stream = null;
  /** @type {Map<string, {text: string, node: HTMLElement}>} */
  #shown = new Map();
  #badges = el("p", { class: "badges" });
  #bar = bar("Progress");
  #message = el("p", { class: "message" });
  #ended = el("p", { class: "unseen", role: "status" });
  #facts = facts();
  #timeline = timeline();
  #json = el("div", { class: "values" });
  #actions = actions(
    () => /** @type {{job: Job, texts: Texts}} */ (this.#record),
    () => this.record.now(),
  );

  /** @param {import("./connection-status.js").Connection} connection @param {string} id */
  constructor(connection, id) {
    this.connection = connection;
    this.id = id;
    this.record = new Refresher(
      () => this.#read(),
      { atMost: 500 },
      (error) => this.#failed(error),
    );
    this.history = new Refresher(
      () => this.#readHistory(),
      { atMost: 1000 },
      () => connection.look(),
    );
    this.body = el(
      "div",
      { hidden: true },
      this.#bar.node,
      this.#message,
      this.#actions.node,
      el("div", { class: "columns" }, this.#facts.node, this.#timeline.node),
      this.#json,
    );
    this.missing = el("div");
    this.node = el(
      "div",
      { class: "view job" },
      el("nav", { "aria-label": "Way back", class: "crumbs" }, el("a", { href: toJobs() }, "Jobs")),
      el("header", { class: "heading" }, el("h1", { tabindex: -1, class: "id" }, id), this.#badges),
      this.#ended,
      this.missing,
      this.body,
    );
  }

  start() {
    this.record.now();
  }

  close() {
    this.#stream?.close();
    this.record.stop();
    this.history.stop();
  }

  /** Read the whole record: at the beginning, at the end, and where something may have been missed. */
  async #read() {
    const { text } = await ask("GET", jobPath(this.id));
    this.#record = recordOf(text);
    this.#draw();
    this.history.now();
    this.#listen();
  }

  /** @param {unknown} error */
  #failed(error) {
    if (isPassing(error) || !(error instanceof Problem)) this.connection.look();
    else this.#gone(error.status === 404 ? "There is no job with this id" : "The service refuses this", error.message);
  }

  /** @param {string} title @param {string} words */
  #gone(title, words) {
    this.close();
    show(this.body, false);
    fill(this.#badges);
    fill(this.missing, emptiness(title, el("p", {}, words), el("p", {}, el("a", { href: toJobs() }, "Show all jobs"))));
  }

  async #readHistory() {
    this.#timeline.update(await read(jobPath(this.id, "/history")));
  }

  #listen() {
    const { job } = /** @type {{job: Job}} */ (this.#record);
    if (this.#stream || isFinal(job.status)) return;
    this.#stream = new Stream(this.connection, () => jobPath(this.id, "/events"), {
      changed: (told) => this.#changed(told),
      deleted: () => this.#gone("The job was deleted", `${this.id} is gone.`),
      expired: () => this.#gone("The job has expired", `${this.id} was kept as long as its retention said.`),
      again: () => this.record.now(),
      refused: () => this.record.now(),
    });
  }

  /** @param {Job} told the record without what was sent as JSON */
  #changed(told) {
    const { job, texts } = /** @type {{job: Job, texts: Texts}} */ (this.#record);
    if (isFinal(told.status)) {
      this.#stream?.end();
      this.record.now();
      return;
    }
    this.#record = { job: told, texts };
    this.#draw();
    if (
      told.status !== job.status ||
      told.attempt !== job.attempt ||
      told.cancel_requested_at !== job.cancel_requested_at
    )
      this.history.soon();
  }

  #draw() {
    const { job, texts } = /** @type {{job: Job, texts: Texts}} */ (this.#record);
    const percent =
      job.status === "running" && job.progress?.total
        ? `${Math.floor((100 * job.progress.current) / job.progress.total)}% `
        : "";
    document.title = `${percent}${job.status}: ${job.job_id} · jobstate`;
    show(this.body, true);
    fill(this.missing);
    refill(
      this.#badges,
      badge(job.status),
      job.stale && staleBadge(),
      job.cancel_requested_at && !isFinal(job.status) && el("span", { class: "badge" }, "cancel asked for"),
    );
    write(
      this.#ended,
      isFinal(job.status) ? `The job has ${job.status === "cancelled" ? "been cancelled" : job.status}.` : "",
    );
    this.#bar.update(job.status === "pending" ? undefined : job.progress);
    write(this.#message, job.progress?.message ?? "");
    this.#actions.update(job);
    this.#facts.update(job);
    this.#drawValues(texts);
  }

  /** What is unfolded stays so, as long as the value is the same. @param {Texts} texts */
  #drawValues(texts) {
    const nodes = [];
    for (const [field, name] of SECTIONS) {
      const text = texts[field];
      if (text === undefined) continue;
      const there = this.#shown.get(field);
      const node = there?.text === text ? there.node : jsonView(name, text);
      this.#shown.set(field, { text, node });
      nodes.push(node);
    }
    if (nodes.some((node, at) => node !== this.#json.children[at]) || nodes.length !== this.#json.children.length)
      fill(this.#json, ...nodes);
  }
}
