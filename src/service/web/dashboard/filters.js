/** The form above the list: what it shows. */

import { FILTERS, toJobs } from "./router.js";
import { el, setAttribute, show } from "./dom.js";
import { STATUSES } from "./model.js";

/** @typedef {{status: string, queue: string, slate_id: string, correlation_id: string}} Filters */

/**
 * The filters of a view's address.
 * @param {URLSearchParams} asked
 * @returns {Filters}
 */
export function filtersOf(asked) {
  return /** @type {Filters} */ (Object.fromEntries(FILTERS.map((name) => [name, asked.get(name) ?? ""])));
}

/** The form; a change goes to the address, and from there to the list. */
export function filterForm() {
  const status = el(
    "select",
    { name: "status" },
    el("option", { value: "" }, "any"),
    ...STATUSES.map((one) => el("option", { value: one }, one)),
  );
  const inputs = {
    queue: el("input", { name: "queue", maxlength: 64, ...PLAIN }),
    slate_id: el("input", { name: "slate_id", maxlength: 128, ...PLAIN }),
    correlation_id: el("input", { name: "correlation_id", maxlength: 128, ...PLAIN }),
  };
  const clear = el("a", { href: toJobs(), class: "button small" }, "Clear");
  const node = el(
    "form",
    { class: "filters", "aria-label": "Filters", change: apply, submit: apply },
    labelled("Status", status),
    labelled("Queue", inputs.queue),
    labelled("Slate", inputs.slate_id),
    labelled("Correlation id", inputs.correlation_id),
    clear,
    el("button", { class: "unseen" }, "Apply"),
  );
  const fields = { status, ...inputs };

  /** @param {Event} event */
  function apply(event) {
    event.preventDefault();
    location.hash = toJobs(Object.fromEntries(FILTERS.map((name) => [name, fields[name].value.trim()])));
  }

  return {
    node,
    /** @param {Filters} filters */
    update(filters) {
      for (const name of FILTERS) if (fields[name].value !== filters[name]) fields[name].value = filters[name];
      for (const name of FILTERS) setAttribute(fields[name], "data-set", filters[name] !== "");
      show(
        clear,
        FILTERS.some((name) => filters[name]),
      );
    },
  };
}

const PLAIN = { autocomplete: "off", autocapitalize: "off", spellcheck: "false" };

/**
 * @param {string} name
 * @param {HTMLElement} field
 */
function labelled(name, field) {
  return el("label", {}, el("span", {}, name), field);
}
