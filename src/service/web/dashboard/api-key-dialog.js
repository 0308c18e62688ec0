/** Asking for an API key where the service does, and forgetting it. */

import { question } from "./dialog.js";
import { byId, show, write } from "./dom.js";
import { forget, hasKey, keep } from "./api-key.js";

const asked = { isAsking: false, isDeclined: false };
const button = byId("key");
write(button, hasKey() ? "Forget the key" : "Give a key…");
button.addEventListener("click", () => (hasKey() ? leave() : askForKey("")));
show(button, true);

/**
 * Ask, unless the answer was no before: then there is the button.
 * @param {string} words
 */
export function turnedAway(words) {
  if (!asked.isDeclined) askForKey(words);
}

/** @param {string} words what the service said */
async function askForKey(words) {
  if (asked.isAsking) return;
  asked.isAsking = true;
  const said = await question({
    title: "An API key is asked for",
    text: `${words} It stays in this tab until the tab is closed.`.trim(),
    action: "Use the key",
    field: { label: "API key", value: "", type: "password", pattern: "\\s*[!-~]+\\s*", required: true },
  });
  asked.isAsking = false;
  asked.isDeclined = said === null;
  if (!said) return;
  keep(said.value.trim());
  location.reload();
}

function leave() {
  forget();
  location.reload();
}
