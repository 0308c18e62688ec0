/** Creates and updates elements. Values of a job become text or attributes, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {string | number | boolean | null | undefined | ((event: any) => void)} Attribute */

/**
 * Create an element. An attribute that is a function becomes a listener for the event of that name.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else setAttribute(element, name, value);
  }
  element.append(...withoutEmpty(children));
  return element;
}

/**
 * Return an icon. It is decorative: the text beside it says the same.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const CIRCLE = "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8Z";
const ICONS = {
  pending: CIRCLE,
  running: `${CIRCLE}M6.4 5.2v5.6L11 8Z`,
  completed: `${CIRCLE}M5 8.3l2.1 2.1L11 6`,
  failed: "M8 1.6 14.6 13.6H1.4ZM8 6v3.6M8 11.3v.4",
  cancelled: `${CIRCLE}M3.8 12.2l8.4-8.4`,
  stale: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.6V8l2.4 1.8",
};

/**
 * Set an attribute. `true` sets the empty value; `false`, null and undefined remove the attribute.
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
 * Set an element's text if it differs. An unchanged text keeps its selection and is not announced again.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Replace an element's children.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...withoutEmpty(children));
}

/**
 * Replace an element's children if they differ. Unchanged ones keep focus and selection.
 * @param {Element} element
 * @param {...Child} children
 */
export function fillIfChanged(element, ...children) {
  const copy = /** @type {Element} */ (element.cloneNode(false));
  copy.append(...withoutEmpty(children));
  if (!element.isEqualNode(copy)) element.replaceChildren(...copy.childNodes);
}

/**
 * Show or hide an element.
 * @param {HTMLElement} element
 * @param {unknown} isShown
 */
export function show(element, isShown) {
  element.hidden = !isShown;
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** @param {Child[]} children */
function withoutEmpty(children) {
  return children.filter((child) => child !== null && child !== undefined && child !== false);
}

/**
 * A list of elements, one per key. Each is created once and updated in place, so that it keeps the focus.
 * @template T
 */
export class KeyedList {
  /** @type {Map<string, {node: HTMLElement, update: (item: T) => void}>} */
  #entries = new Map();

  /**
   * @param {Element} parent
   * @param {(item: T) => string} keyOf
   * @param {(item: T) => {node: HTMLElement, update: (item: T) => void}} create
   */
  constructor(parent, keyOf, create) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.create = create;
  }

  /**
   * Show exactly these items, in this order.
   * @param {Iterable<T>} items
   */
  update(items) {
    const previous = this.#entries;
    this.#entries = new Map();
    let position = this.parent.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      const entry = previous.get(key) ?? this.create(item);
      previous.delete(key);
      this.#entries.set(key, entry);
      entry.update(item);
      if (entry.node === position) position = position.nextElementSibling;
      else this.parent.insertBefore(entry.node, position);
    }
    for (const { node } of previous.values()) node.remove();
  }
}
