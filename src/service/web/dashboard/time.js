/** Relative times and durations as text, by the service's clock. */

/** How far this browser's clock is behind the service's, in ms. Small differences are ignored. */
const clock = { behind: 0 };
const TOLERANCE_MS = 3000;

/**
 * Set the clock by a response's `Date` header.
 * @param {string | null} date
 */
export function syncClock(date) {
  const time = Date.parse(date ?? "");
  if (Number.isNaN(time)) return;
  const behind = time - Date.now();
  clock.behind = Math.abs(behind) > TOLERANCE_MS ? behind : 0;
}

/** Return the service's time, in ms since 1970. */
export function now() {
  return Date.now() + clock.behind;
}

/**
 * Format a duration: `3.2 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`.
 * @param {number} ms
 */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return twoUnits(Math.round(seconds));
}

/** Format whole seconds in up to two units. @param {number | undefined} seconds */
export function twoUnits(seconds) {
  if (seconds === undefined) return "";
  const [days, hours] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24];
  const [minutes, rest] = [Math.floor(seconds / 60) % 60, seconds % 60];
  if (days) return joinUnits(days, "d", hours, "h");
  if (hours) return joinUnits(hours, "h", minutes, "min");
  return minutes ? joinUnits(minutes, "min", rest, "s") : `${rest} s`;
}

/** @param {number} seconds */
function oneUnit(seconds) {
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
function joinUnits(large, unit, small, subunit) {
  return small ? `${large} ${unit} ${small} ${subunit}` : `${large} ${unit}`;
}

/** Formats of a relative time. Each takes the ms that have passed; an element names its format in `data-format`. */
const FORMATS = {
  /** @param {number} ms */
  ago: (ms) => (ms < 1000 ? "just now" : `${oneUnit(Math.floor(ms / 1000))} ago`),
  /** @param {number} ms */
  age: (ms) => twoUnits(Math.floor(Math.max(ms, 0) / 1000)),
  /** @param {number} ms */
  left: (ms) => (ms < 0 ? `in ${twoUnits(Math.ceil(-ms / 1000))}` : "now"),
};

/**
 * Return an element that shows a relative time. `tickAll` keeps it current. Its title is the absolute time.
 * @param {string} iso
 * @param {keyof typeof FORMATS} [format]
 */
export function timeElement(iso, format = "ago") {
  const element = document.createElement("time");
  element.dataset.format = format;
  setTime(element, iso);
  return element;
}

/**
 * Change the time of an element from `timeElement`.
 * @param {HTMLTimeElement} element
 * @param {string} iso
 */
export function setTime(element, iso) {
  element.dateTime = iso;
  element.title = absolute(iso);
  tick(element);
}

/** Update all relative times on the page. */
export function tickAll() {
  for (const element of document.querySelectorAll("time[data-format]")) tick(/** @type {HTMLTimeElement} */ (element));
}

/** @param {HTMLTimeElement} element */
function tick(element) {
  const format = /** @type {keyof typeof FORMATS} */ (element.dataset.format);
  const text = FORMATS[format](now() - Date.parse(element.dateTime));
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Format a local date and time, with seconds and time zone.
 * @param {string} iso
 */
export function absolute(iso) {
  return new Date(iso).toLocaleString(undefined, {
    ...{ year: "numeric", month: "short", day: "numeric" },
    ...{ hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" },
  });
}

/**
 * Format a local time of day.
 * @param {number} ms since 1970
 */
export function timeOfDay(ms, withSeconds = false) {
  const seconds = withSeconds ? /** @type {const} */ ({ second: "2-digit" }) : {};
  return new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", ...seconds });
}
