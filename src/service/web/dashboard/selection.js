/** The selected rows of the list of jobs, and the bar with what can be done to them. */

import { ACTIONS, jobCount } from "./bulk-texts.js";
import { progressBar } from "./components.js";
import { el, setText, show } from "./dom.js";
import { isFiltered } from "./filters.js";
import { loadStyles } from "./styles.js";
import { withErrorToast } from "./toasts.js";

/** @typedef {import("./bulk-texts.js").Action} Action */
/** @typedef {import("./filters.js").Filters} Filters */

await loadStyles("jobs.css");

export class Selection {
  /** @type {Filters | null} */
  #filters = null;
  /** Whether jobs of other pages match the filters too. */
  #hasMore = false;
  /** Whether all jobs that match the filters are selected, not only those of the rows. */
  #isAll = false;
  /** Stops the action that is being carried out. @type {AbortController | null} */
  #running = null;
  /** What is being carried out, as text; empty if nothing is. */
  #runningText = "";
  #text = el("p");
  #announcement = el("p", { class: "visually-hidden", role: "status" });
  #all = button("Select all jobs that match", () => this.#selectAll(true));
  #clear = button("Clear", () => this.#selectAll(false));
  #buttons = actions().map((action) => {
    const { name, isDestructive } = ACTIONS[action];
    return button(name, () => this.#run(action), isDestructive ? "danger" : "");
  });
  /** The button to which the focus returns. */
  #used = this.#buttons[0];
  #choices = el("div", { class: "actions" }, ...this.#buttons, this.#clear);
  #progress = progressBar("Progress");
  #stop = button("Stop", () => this.#running?.abort());
  #bar = el(
    "section",
    { "aria-label": "Selected jobs", hidden: true },
    ...[this.#text, this.#all, this.#choices, this.#progress.node, this.#stop],
  );

  /** @param {HTMLTableElement} table its check boxes have the job ids as values; the one in its head selects all */
  constructor(table) {
    this.rows = /** @type {HTMLElement} */ (table.tBodies[0]);
    this.head = /** @type {HTMLInputElement} */ (table.tHead?.querySelector("input"));
    this.head.addEventListener("change", () => this.#selectAll(false, this.head.checked));
    this.rows.addEventListener("change", () => this.#onChange());
    this.#clear.append(el("span", { class: "visually-hidden" }, " selection"));
    this.node = el("div", { class: "selection" }, this.#announcement, this.#bar);
  }

  /**
   * Show what is selected after a change of the rows. Other filters or another page end the selection of all.
   * @param {Filters} filters
   * @param {boolean} hasMore whether jobs of other pages match too
   */
  update(filters, hasMore) {
    this.#isAll &&= filters === this.#filters;
    this.#filters = filters;
    this.#hasMore = hasMore && isFiltered(filters);
    if (this.#isAll) this.#check(true);
    this.#draw();
  }

  /** Stop a count, which would end with a question. The requests for selected jobs go on. */
  close() {
    if (this.#isAll) this.#running?.abort();
  }

  get #boxes() {
    return /** @type {HTMLInputElement[]} */ ([...this.rows.querySelectorAll("input:enabled")]);
  }

  get #selected() {
    return this.#boxes.filter((box) => box.checked).map((box) => box.value);
  }

  /** @param {boolean} isAll @param {boolean} isChecked */
  #selectAll(isAll, isChecked = isAll) {
    this.#isAll = isAll;
    this.#check(isChecked);
    this.#draw();
  }

  /** @param {boolean} isChecked */
  #check(isChecked) {
    for (const box of this.#boxes) box.checked = isChecked;
  }

  #onChange() {
    this.#isAll = false;
    this.#draw();
  }

  /** @param {Action} action */
  async #run(action) {
    if (this.#running) return;
    const { signal } = (this.#running = new AbortController());
    this.#used = this.#buttons[actions().indexOf(action)];
    const control = { signal, onProgress: this.#onProgress, onEnd: this.#onEnd };
    await withErrorToast(async () => {
      const { changeMatching, changeSelected } = await import("./bulk-change.js");
      if (this.#isAll) return changeMatching(action, /** @type {Filters} */ (this.#filters), control);
      const ended = new Set(await changeSelected(action, this.#selected, control));
      for (const box of this.#boxes) if (ended.has(box.value)) box.checked = false;
    });
    this.#running = null;
    this.#onEnd();
  }

  /** @param {string} text @param {{current: number, total?: number}} progress */
  #onProgress = (text, progress) => {
    this.#progress.update(progress);
    this.#runningText = text;
    this.#draw();
  };

  #onEnd = () => {
    this.#runningText = "";
    this.#draw();
  };

  #draw() {
    const [selected, boxes, isRunning] = [this.#selected.length, this.#boxes.length, this.#runningText !== ""];
    const isFull = selected > 0 && selected === boxes;
    this.head.checked = isFull;
    this.head.indeterminate = selected > 0 && !isFull;
    const text = this.#isAll ? "All jobs that match are selected." : `${jobCount(selected)} selected.`;
    const isShown = selected > 0 || isRunning;
    const focused = document.activeElement;
    setText(this.#text, this.#runningText || text);
    setText(this.#announcement, isShown ? (this.#text.textContent ?? "") : "");
    show(this.#bar, isShown);
    show(this.#all, isFull && this.#hasMore && !this.#isAll && !isRunning);
    show(this.#choices, !isRunning);
    for (const node of [this.#progress.node, this.#stop]) show(node, isRunning);
    if (this.#bar.contains(focused) && focused?.closest("[hidden]")) this.#focus(isShown, isRunning);
  }

  /** Move the focus from a button that was hidden. @param {boolean} isShown @param {boolean} isRunning */
  #focus(isShown, isRunning) {
    const choice = isRunning ? this.#stop : this.#used;
    (isShown && choice ? choice : this.head).focus();
  }
}

function actions() {
  return /** @type {Action[]} */ (Object.keys(ACTIONS));
}

/** @param {string} text @param {() => void} click */
function button(text, click, kind = "") {
  return el("button", { type: "button", class: `small ${kind}`.trim(), click }, text);
}
