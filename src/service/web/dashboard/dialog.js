/** Questions that are answered before anything is done. */

import { el } from "./dom.js";

/** @typedef {{label: string, value: string, type: string, min?: number, max?: number, pattern?: string, required?: boolean}} Field */
/** @typedef {{title: string, text: string, action: string, isGrave?: boolean, field?: Field, other?: string}} Question */
/** @typedef {{action: string, value: string}} Said */

/**
 * Ask; null if the answer is no. Esc says no, and focus goes back to where it was.
 * @param {Question} question
 * @returns {Promise<Said | null>}
 */
export function question({ title, text, action, isGrave = false, field, other }) {
  const input = field ? inputOf(field) : null;
  const no = el("button", { type: "button", click: () => dialog.close("") }, isGrave ? "No, leave it" : "Back");
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", { id: "question" }, title),
    el("p", { id: "question-text" }, text),
    input && el("label", {}, el("span", {}, field?.label), input),
    el(
      "div",
      { class: "actions" },
      el("button", { value: "yes", class: isGrave ? "grave" : "main" }, action),
      other ? el("button", { value: "other", formnovalidate: true }, other) : null,
      no,
    ),
  );
  const dialog = el("dialog", { "aria-labelledby": "question", "aria-describedby": "question-text" }, form);
  document.body.append(dialog);
  dialog.showModal();
  (input ?? no).focus();
  input?.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue ? { action: dialog.returnValue, value: input?.value ?? "" } : null);
    });
  });
}

/** @param {Field} field */
function inputOf({ value, type, min, max, pattern, required }) {
  const inputmode = type === "number" ? "numeric" : null;
  return el("input", { type, value, min, max, pattern, required, inputmode, autocomplete: "off" });
}
