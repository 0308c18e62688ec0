/** The dialog that asks for an API key, and the header's button that opens it or clears the key. */

import { clear, hasKey, save } from "./api-key.js";
import { openDialog } from "./dialog.js";
import { byId, setText, show } from "./dom.js";

const dialog = { isOpen: false, isDismissed: false };
const button = byId("api-key");
setText(button, hasKey() ? "Clear API key" : "Enter API key…");
button.addEventListener("click", () => (hasKey() ? clearKey() : promptForKey("")));
show(button, true);

/**
 * Open the dialog, unless the user dismissed it before. The button still opens it then.
 * @param {string} message
 */
export function promptUnlessDismissed(message) {
  if (!dialog.isDismissed) promptForKey(message);
}

/** @param {string} message the service's explanation */
async function promptForKey(message) {
  if (dialog.isOpen) return;
  dialog.isOpen = true;
  const result = await openDialog({
    title: "API key required",
    text: `${message} The key is stored in this tab until you close it.`.trim(),
    action: "Use key",
    field: { label: "API key", value: "", type: "password", pattern: "\\s*[!-~]+\\s*", required: true },
  });
  dialog.isOpen = false;
  dialog.isDismissed = result === null;
  if (!result) return;
  save(result.value.trim());
  location.reload();
}

function clearKey() {
  clear();
  location.reload();
}
