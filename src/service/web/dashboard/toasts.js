/** Short messages at the bottom of the page, also for screen readers. */

import { byId, fill, setAttribute } from "./dom.js";

const DURATION_MS = 8000;
const timer = { id: 0 };

/**
 * Show a message for some seconds.
 * @param {string} text
 */
export function toast(text, isError = false) {
  const element = byId("toast");
  clearTimeout(timer.id);
  setAttribute(element, "class", isError ? "error" : "");
  fill(element, text);
  timer.id = setTimeout(() => fill(element), isError ? 2 * DURATION_MS : DURATION_MS);
}

/**
 * Run an action and show its error, if it throws one.
 * @param {() => Promise<unknown>} action
 */
export async function withErrorToast(action) {
  try {
    await action();
  } catch (error) {
    toast(error instanceof Error ? error.message : String(error), true);
  }
}

/**
 * Copy a text to the clipboard. Over plain HTTP browsers have no `navigator.clipboard`.
 * @param {string} text
 * @param {string} name
 */
export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copyByCommand(text)) {
      toast("The browser blocked copying.", true);
      return;
    }
  }
  toast(`${name} copied.`);
}

/** @param {string} text */
function copyByCommand(text) {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.className = "visually-hidden";
  area.value = text;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return isCopied;
}
