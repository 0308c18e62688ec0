/** Style sheets that the first view does not need. */

import { el } from "./dom.js";

/**
 * Load a style sheet. Its module awaits it, so that nothing is drawn without it, but goes on if it fails to load.
 * @param {string} name
 * @returns {Promise<void>}
 */
export function loadStyles(name) {
  const href = import.meta.url.replace(/[^/]*$/, name);
  return new Promise((resolve) => {
    document.head.append(el("link", { rel: "stylesheet", href, load: () => resolve(), error: () => resolve() }));
  });
}
