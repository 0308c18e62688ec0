/** Making and changing elements. Whatever comes from a job becomes text or an attribute, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {string | number | boolean | null | undefined | ((event: any) => void)} Attribute */

/**
 * Make an element. An attribute that is a function listens to the event of that name; one that is false is left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else setAttribute(made, name, value);
  }
  made.append(...present(children));
  return made;
}

/**
 * Draw one of the marks of the sprite below: decoration, the words beside it say the same.
 * @param {keyof typeof MARKS} name
 */
export function mark(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `mark ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", MARKS[name]);
  svg.append(path);
  return svg;
}

const CIRCLE = "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8Z";
const MARKS = {
  pending: CIRCLE,
  running: `${CIRCLE}M6.4 5.2v5.6L11 8Z`,
  completed: `${CIRCLE}M5 8.3l2.1 2.1L11 6`,
  failed: "M8 1.6 14.6 13.6H1.4ZM8 6v3.6M8 11.3v.4",
  cancelled: `${CIRCLE}M3.8 12.2l8.4-8.4`,
  stale: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.6V8l2.4 1.8",
};

/**
 * Set an attribute, or take it away: true is the empty value, false and null are none.
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function setAttribute(element, name, value) {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value))
    element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Change an element's text if it is another one: what is the same is not announced again, and stays selected.
 * @param {Element} element
 * @param {string} text
 */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Put these in place of all that an element has.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/**
 * The same, but only if they are others: what is the same keeps its focus and its selection.
 * @param {Element} element
 * @param {...Child} children
 */
export function refill(element, ...children) {
  const fresh = /** @type {Element} */ (element.cloneNode(false));
  fresh.append(...present(children));
  if (!element.isEqualNode(fresh)) element.replaceChildren(...fresh.childNodes);
}

/**
 * Show or hide an element.
 * @param {HTMLElement} element
 * @param {unknown} shown
 */
export function show(element, shown) {
  element.hidden = !shown;
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {Child[]} children */
function present(children) {
  return children.filter((child) => child !== null && child !== undefined && child !== false);
}

/**
 * Parts of a page that stand for things with a key: each is made once and changed in place, so that focus stays.
 * @template T
 */
export class Parts {
  /** @type {Map<string, {node: HTMLElement, update: (item: T) => void}>} */
  #there = new Map();

  /**
   * @param {Element} parent
   * @param {(item: T) => string} keyOf
   * @param {(item: T) => {node: HTMLElement, update: (item: T) => void}} make
   */
  constructor(parent, keyOf, make) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
  }

  /**
   * Show these, in this order, and nothing else.
   * @param {Iterable<T>} items
   */
  show(items) {
    const before = this.#there;
    this.#there = new Map();
    let place = this.parent.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      const part = before.get(key) ?? this.make(item);
      before.delete(key);
      this.#there.set(key, part);
      part.update(item);
      if (part.node === place) place = place.nextElementSibling;
      else this.parent.insertBefore(part.node, place);
    }
    for (const { node } of before.values()) node.remove();
  }
}
