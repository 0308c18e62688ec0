/** Times as people read them: how long ago and how long yet, by the service's clock. */

/** How far this browser's clock is behind the service's, in ms; small differences are left alone. */
const clock = { behind: 0 };
const TOLERATED = 3000;

/**
 * Learn the service's time from an answer.
 * @param {string | null} date
 */
export function learn(date) {
  const told = Date.parse(date ?? "");
  if (Number.isNaN(told)) return;
  const behind = told - Date.now();
  clock.behind = Math.abs(behind) > TOLERATED ? behind : 0;
}

/** The service's time, in ms since 1970. */
export function now() {
  return Date.now() + clock.behind;
}

/**
 * Words for a length of time: `3.2 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
 * @param {number} ms
 */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return long(Math.round(seconds));
}

/** @param {number} seconds */
function long(seconds) {
  const [days, hours] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24];
  const [minutes, rest] = [Math.floor(seconds / 60) % 60, seconds % 60];
  if (days) return joined(days, "d", hours, "h");
  if (hours) return joined(hours, "h", minutes, "min");
  return minutes ? joined(minutes, "min", rest, "s") : `${rest} s`;
}

/** @param {number} seconds */
function coarse(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

/**
 * @param {number} large
 * @param {string} unit
 * @param {number} small
 * @param {string} subunit
 */
function joined(large, unit, small, subunit) {
  return small ? `${large} ${unit} ${small} ${subunit}` : `${large} ${unit}`;
}

/** How a time is told, by the name that its element carries: how long ago, how long since, how long yet. */
const TOLD = {
  /** @param {number} ms */
  ago: (ms) => (ms < 1000 ? "just now" : `${coarse(Math.floor(ms / 1000))} ago`),
  /** @param {number} ms */
  age: (ms) => long(Math.floor(Math.max(ms, 0) / 1000)),
  /** @param {number} ms */
  left: (ms) => (ms < 0 ? `in ${long(Math.ceil(-ms / 1000))}` : "now"),
};

/**
 * An element that goes on telling a time, with the time itself in its title.
 * @param {string} iso
 * @param {keyof typeof TOLD} [manner]
 */
export function timeElement(iso, manner = "ago") {
  const element = document.createElement("time");
  element.dataset.told = manner;
  tell(element, iso);
  return element;
}

/**
 * Give a time to an element of `timeElement`.
 * @param {HTMLTimeElement} element
 * @param {string} iso
 */
export function tell(element, iso) {
  element.dateTime = iso;
  element.title = absolute(iso);
  tick(element);
}

/** Tell all times on the page anew. */
export function tickAll() {
  for (const element of document.querySelectorAll("time[data-told]")) tick(/** @type {HTMLTimeElement} */ (element));
}

/** @param {HTMLTimeElement} element */
function tick(element) {
  const manner = /** @type {keyof typeof TOLD} */ (element.dataset.told);
  const text = TOLD[manner](now() - Date.parse(element.dateTime));
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A time in this place, to the second, with its zone.
 * @param {string} iso
 */
export function absolute(iso) {
  return new Date(iso).toLocaleString(undefined, {
    ...{ year: "numeric", month: "short", day: "numeric" },
    ...{ hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" },
  });
}

/**
 * A time of day.
 * @param {number} ms
 */
export function timeOfDay(ms, withSeconds = false) {
  const seconds = withSeconds ? /** @type {const} */ ({ second: "2-digit" }) : {};
  return new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", ...seconds });
}
