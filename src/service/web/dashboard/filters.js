/** The filter form above the list of jobs. */

import { el, setAttribute, show } from "./dom.js";
import { STATUSES } from "./model.js";
import { FILTERS, jobsHref } from "./router.js";

/** @typedef {{status: string, queue: string, slate_id: string, correlation_id: string}} Filters */

/**
 * Return the filters among an address's parameters. A filter that is not set is the empty string.
 * @param {URLSearchParams} params
 * @returns {Filters}
 */
export function parseFilters(params) {
  return /** @type {Filters} */ (Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""])));
}

/** Return the form. A change sets the address, which then updates the list. */
export function filterForm() {
  const status = el(
    "select",
    { name: "status" },
    el("option", { value: "" }, "Any"),
    ...STATUSES.map((name) => el("option", { value: name }, name)),
  );
  const inputs = {
    queue: el("input", { name: "queue", maxlength: 64, ...NO_AUTOFILL }),
    slate_id: el("input", { name: "slate_id", maxlength: 128, ...NO_AUTOFILL }),
    correlation_id: el("input", { name: "correlation_id", maxlength: 128, ...NO_AUTOFILL }),
  };
  const clear = el("a", { href: jobsHref(), class: "button small" }, "Clear");
  const node = el(
    "form",
    { class: "filters", "aria-label": "Filters", change: apply, submit: apply },
    labelled("Status", status),
    labelled("Queue", inputs.queue),
    labelled("Slate", inputs.slate_id),
    labelled("Correlation ID", inputs.correlation_id),
    clear,
    el("button", { class: "visually-hidden" }, "Apply"),
  );
  const fields = { status, ...inputs };

  /** @param {Event} event */
  function apply(event) {
    event.preventDefault();
    location.hash = jobsHref(Object.fromEntries(FILTERS.map((name) => [name, fields[name].value.trim()])));
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

const NO_AUTOFILL = { autocomplete: "off", autocapitalize: "off", spellcheck: "false" };

/**
 * @param {string} label
 * @param {HTMLElement} field
 */
function labelled(label, field) {
  return el("label", {}, el("span", {}, label), field);
}
