/** Modal dialogs: a confirmation, or a form with one field. */

import { el } from "./dom.js";

/** @typedef {{label: string, value: string, type: string, min?: number, max?: number, pattern?: string, required?: boolean}} Field */
/** @typedef {{title: string, text: string, action: string, isDestructive?: boolean, field?: Field, secondaryAction?: string}} DialogOptions */
/** @typedef {{action: string, value: string}} DialogResult */

/**
 * Open a dialog and return its result, null if it was dismissed. Esc dismisses it. The focus then returns.
 * @param {DialogOptions} options
 * @returns {Promise<DialogResult | null>}
 */
export function openDialog({ title, text, action, isDestructive = false, field, secondaryAction }) {
  const input = field ? fieldInput(field) : null;
  const dismissText = isDestructive ? "Go back" : "Cancel";
  const dismiss = el("button", { type: "button", click: () => dialog.close("") }, dismissText);
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", { id: "dialog-title" }, title),
    el("p", { id: "dialog-text" }, text),
    input && el("label", {}, el("span", {}, field?.label), input),
    el(
      "div",
      { class: "actions" },
      el("button", { value: "primary", class: isDestructive ? "danger" : "primary" }, action),
      secondaryAction ? el("button", { value: "secondary", formnovalidate: true }, secondaryAction) : null,
      dismiss,
    ),
  );
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  document.body.append(dialog);
  dialog.showModal();
  (input ?? dismiss).focus();
  input?.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue ? { action: dialog.returnValue, value: input?.value ?? "" } : null);
    });
  });
}

/** @param {Field} field */
function fieldInput({ value, type, min, max, pattern, required }) {
  const inputmode = type === "number" ? "numeric" : null;
  return el("input", { type, value, min, max, pattern, required, inputmode, autocomplete: "off" });
}
