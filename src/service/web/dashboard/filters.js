/** The filter form above the list of jobs. */

import { el, KeyedList, setAttribute, show } from "./dom.js";
import { STATUSES } from "./model.js";
import { jobsHref } from "./router.js";

/** @typedef {{status: string, queue: string, slate_id: string, correlation_id: string, label: string[]}} Filters */

/** @typedef {{label: string, filters: Filters}} Chip */

/** The filters that have one value. */
const FIELDS = /** @type {const} */ (["status", "queue", "slate_id", "correlation_id"]);
/** As many labels as the service takes. */
const MAX_LABELS = 5;

/**
 * Return the filters among an address's parameters. A filter that is not set is the empty string.
 * @param {URLSearchParams} params
 * @returns {Filters}
 */
export function parseFilters(params) {
  const values = Object.fromEntries(FIELDS.map((name) => [name, params.get(name) ?? ""]));
  return /** @type {Filters} */ ({ ...values, label: params.getAll("label") });
}

/** Whether any filter is set. @param {Filters} filters */
export function isFiltered(filters) {
  return Object.values(filters).some((value) => value.length > 0);
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
  /** A label to add to those of the filter. */
  const label = el("input", { name: "label", placeholder: "key:value", maxlength: 161, ...NO_AUTOFILL });
  const chips = el("ul", { class: "labels", "aria-label": "Label filters" });
  const chipList = new KeyedList(chips, (/** @type {Chip} */ { label }) => label, removalChip);
  const clear = el("a", { href: jobsHref(), class: "button small" }, "Clear");
  const node = el(
    "form",
    { class: "filters", "aria-label": "Filters", change: apply, submit: apply },
    labelled("Status", status),
    labelled("Queue", inputs.queue),
    labelled("Slate", inputs.slate_id),
    labelled("Correlation ID", inputs.correlation_id),
    labelled("Label", label),
    clear,
    chips,
    el("button", { class: "visually-hidden" }, "Apply"),
  );
  const fields = { status, ...inputs };
  /** @type {string[]} */
  let labels = [];

  /** @param {Event} event */
  function apply(event) {
    event.preventDefault();
    const values = Object.fromEntries(FIELDS.map((name) => [name, fields[name].value.trim()]));
    labels = [...new Set([...labels, label.value.trim()])];
    label.value = ""; // a submit comes after the change
    location.hash = jobsHref({ ...values, label: labels });
  }

  return {
    node,
    /** @param {Filters} filters */
    update(filters) {
      labels = filters.label;
      for (const name of FIELDS) if (fields[name].value !== filters[name]) fields[name].value = filters[name];
      for (const name of FIELDS) setAttribute(fields[name], "data-set", filters[name] !== "");
      setAttribute(label, "readonly", labels.length >= MAX_LABELS);
      setAttribute(label, "placeholder", labels.length < MAX_LABELS ? "key:value" : `at most ${MAX_LABELS}`);
      const hadFocus = chips.contains(document.activeElement);
      chipList.update(labels.map((one) => ({ label: one, filters })));
      if (hadFocus && !chips.contains(document.activeElement)) label.focus();
      show(chips, labels.length > 0);
      show(clear, isFiltered(filters));
    },
  };
}

/** A label of the filters, with a link to the list without it. @param {Chip} chip */
function removalChip({ label }) {
  const hidden = el("span", { class: "visually-hidden" }, "Remove the filter ");
  const link = el("a", { class: "label set" }, hidden, label, el("span", { "aria-hidden": "true" }, " ×"));
  return {
    node: el("li", {}, link),
    /** @param {Chip} chip */
    update({ filters }) {
      const others = filters.label.filter((one) => one !== label);
      setAttribute(link, "href", jobsHref({ ...filters, label: others }));
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
