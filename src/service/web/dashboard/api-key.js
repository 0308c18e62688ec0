/** The API key, where the service requires one. It is stored for this tab only and sent to this service only. */

/** Services under other path prefixes may share the origin, and with it the storage. */
const STORAGE_KEY = `jobstate-api-key ${new URL(".", document.baseURI).pathname}`;

/** @type {{onUnauthorized: (message: string) => void}} */
const listener = { onUnauthorized: () => {} };

/** Return the `Authorization` header, or no header without a key. @returns {Record<string, string>} */
export function authorization() {
  const key = sessionStorage.getItem(STORAGE_KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function hasKey() {
  return sessionStorage.getItem(STORAGE_KEY) !== null;
}

/** @param {string} key */
export function save(key) {
  sessionStorage.setItem(STORAGE_KEY, key);
}

export function clear() {
  sessionStorage.removeItem(STORAGE_KEY);
}

/**
 * Set the function that is called when the service requires an API key, or another one.
 * @param {(message: string) => void} callback
 */
export function onUnauthorized(callback) {
  listener.onUnauthorized = callback;
}

/** @param {string} message the service's explanation */
export function reportUnauthorized(message) {
  listener.onUnauthorized(message);
}
