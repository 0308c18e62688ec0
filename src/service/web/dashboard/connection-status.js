/** Whether the service, Redis and the event stream are available. All views share it. */

import { Problem, request } from "./api.js";

/** @typedef {{state: "connecting" | "live" | "lost" | "redis-down" | "stream-down", detail: string, since: number}} Status */

/** Delays in ms before the next check: after a success and after a failure. */
const CHECK_INTERVAL = 10_000;
const RETRY_INTERVAL = 1000;
/** A stream counts as down after this many ms without a connection. */
const STREAM_DOWN_AFTER = 4000;

/** Polls `/ready` and notifies listeners of each change. */
export class ConnectionStatus {
  /** @type {Set<(status: Status, previous: Status) => void>} */
  #listeners = new Set();
  /** @type {Status} */
  #status = { state: "connecting", detail: "", since: Date.now() };
  #timer = 0;
  #streamTimer = 0;
  #isChecking = false;
  #isStreamDown = false;

  /**
   * Call a listener on each change. Returns a function that removes it.
   * @param {(status: Status, previous: Status) => void} listener
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Check now: a request failed, or the page became visible. */
  async check() {
    clearTimeout(this.#timer);
    if (this.#isChecking) return;
    this.#isChecking = true;
    const [state, detail] = await checkReady();
    this.#isChecking = false;
    this.#set(state === "live" && this.#isStreamDown ? "stream-down" : state, detail);
    const delay = state === "live" ? CHECK_INTERVAL : RETRY_INTERVAL;
    if (!document.hidden) this.#timer = setTimeout(() => this.check(), delay);
  }

  /** A stream was opened. */
  streamOpened() {
    this.streamClosed();
    if (this.#status.state !== "live") this.check();
  }

  /** The page closed its stream. */
  streamClosed() {
    clearTimeout(this.#streamTimer);
    this.#streamTimer = 0;
    this.#isStreamDown = false;
    if (this.#status.state === "stream-down") this.check();
  }

  /** A stream was interrupted or rejected. */
  streamFailed() {
    this.check();
    this.#streamTimer ||= setTimeout(() => {
      this.#isStreamDown = true;
      this.check();
    }, STREAM_DOWN_AFTER);
  }

  /**
   * @param {Status["state"]} state
   * @param {string} detail
   */
  #set(state, detail) {
    const previous = this.#status;
    if (previous.state === state && previous.detail === detail) return;
    this.#status = { state, detail, since: previous.state === state ? previous.since : Date.now() };
    for (const listener of this.#listeners) listener(this.#status, previous);
  }
}

/** @returns {Promise<["live" | "lost" | "redis-down", string]>} */
async function checkReady() {
  try {
    await request("GET", "ready");
    return ["live", ""];
  } catch (error) {
    return error instanceof Problem ? ["redis-down", error.message] : ["lost", ""];
  }
}
