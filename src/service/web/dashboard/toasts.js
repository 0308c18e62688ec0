/** What is said in passing: at the foot of the page, and to a screen reader. */

import { byId, fill, setAttribute } from "./dom.js";

const SHOWN_FOR = 8000;
const timer = { id: 0 };

/**
 * Say something for a while.
 * @param {string} text
 */
export function say(text, isBad = false) {
  const notice = byId("notice");
  clearTimeout(timer.id);
  setAttribute(notice, "class", isBad ? "bad" : "");
  fill(notice, text);
  timer.id = setTimeout(() => fill(notice), isBad ? 2 * SHOWN_FOR : SHOWN_FOR);
}

/**
 * Do something, and say so where it is refused.
 * @param {() => Promise<unknown>} action
 */
export async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
  }
}

/**
 * Put text on the clipboard; over plain HTTP browsers have the old way only.
 * @param {string} text
 * @param {string} name
 */
export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copiedTheOldWay(text)) {
      say("The browser does not let this page copy.", true);
      return;
    }
  }
  say(`${name}: copied.`);
}

/** @param {string} text */
function copiedTheOldWay(text) {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.className = "unseen";
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}
