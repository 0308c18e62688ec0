/** Whether the service answers, whether Redis does, and whether events are heard: the page's one store of its own. */

import { ask, Problem } from "./api.js";

/** @typedef {{state: "connecting" | "live" | "lost" | "away" | "deaf", detail: string, since: number}} Standing */

/** After how many ms the service is asked again whether all is well, and how soon when it was not. */
const PULSE = 10_000;
const ANXIOUS_PULSE = 1000;
/** A stream that is down for so long is worth saying, if all else is well. */
const DEAF_AFTER = 4000;

/** Asks `/ready` again and again, and tells those who want to know. */
export class Connection {
  /** @type {Set<(standing: Standing, before: Standing) => void>} */
  #told = new Set();
  /** @type {Standing} */
  #standing = { state: "connecting", detail: "", since: Date.now() };
  #timer = 0;
  #deafTimer = 0;
  #isAsking = false;
  #isDeaf = false;

  get standing() {
    return this.#standing;
  }

  /**
   * Be told of every change; returns how to be told no more.
   * @param {(standing: Standing, before: Standing) => void} listener
   */
  subscribe(listener) {
    this.#told.add(listener);
    return () => this.#told.delete(listener);
  }

  /** Look now: something went wrong, or the page is seen again. */
  async look() {
    clearTimeout(this.#timer);
    if (this.#isAsking) return;
    this.#isAsking = true;
    const [state, detail] = await pulse();
    this.#isAsking = false;
    this.#set(state === "live" && this.#isDeaf ? "deaf" : state, detail);
    if (!document.hidden) this.#timer = setTimeout(() => this.look(), state === "live" ? PULSE : ANXIOUS_PULSE);
  }

  /** Events are heard again. */
  hears() {
    this.rests();
    if (this.#standing.state !== "live") this.look();
  }

  /** Nobody listens any more. */
  rests() {
    clearTimeout(this.#deafTimer);
    this.#deafTimer = 0;
    this.#isDeaf = false;
    if (this.#standing.state === "deaf") this.look();
  }

  /** The stream of events broke off, or was refused. */
  isDeaf() {
    this.look();
    this.#deafTimer ||= setTimeout(() => {
      this.#isDeaf = true;
      this.look();
    }, DEAF_AFTER);
  }

  /**
   * @param {Standing["state"]} state
   * @param {string} detail
   */
  #set(state, detail) {
    const before = this.#standing;
    if (before.state === state && before.detail === detail) return;
    this.#standing = { state, detail, since: before.state === state ? before.since : Date.now() };
    for (const listener of this.#told) listener(this.#standing, before);
  }
}

/** @returns {Promise<["live" | "lost" | "away", string]>} */
async function pulse() {
  try {
    await ask("GET", "ready");
    return ["live", ""];
  } catch (error) {
    return error instanceof Problem ? ["away", error.message] : ["lost", ""];
  }
}
