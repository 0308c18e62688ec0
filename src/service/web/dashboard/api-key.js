/** The API key of whoever looks, where the service asks for one: kept for this tab alone, and sent to this service alone. */

/** Storage belongs to an origin, which other services under other path prefixes may share. */
const PLACE = `jobstate-api-key ${new URL(".", document.baseURI).pathname}`;

/** @type {{heard: (words: string) => void}} */
const door = { heard: () => {} };

/** What a request carries: a header where there is a key. @returns {Record<string, string>} */
export function authorization() {
  const key = sessionStorage.getItem(PLACE);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export function hasKey() {
  return sessionStorage.getItem(PLACE) !== null;
}

/** @param {string} key */
export function keep(key) {
  sessionStorage.setItem(PLACE, key);
}

export function forget() {
  sessionStorage.removeItem(PLACE);
}

/**
 * Be told where the service asks for a key, or for another one.
 * @param {(words: string) => void} listener
 */
export function onTurnedAway(listener) {
  door.heard = listener;
}

/** @param {string} words what the service says of it */
export function turnedAway(words) {
  door.heard(words);
}
