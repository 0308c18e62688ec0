/** Events of the service as they happen, across interruptions. */

import { resolveUrl } from "./api.js";
import { FetchEventSource } from "./fetch-event-source.js";

/** @typedef {import("./connection-status.js").ConnectionStatus} ConnectionStatus */
/** @typedef {Record<string, (data: any) => void>} Handlers */

/** Delays in ms before a rejected stream is requested again. Each is twice the previous one, up to the last. */
const RETRY_DELAY = { first: 1000, last: 15_000 };

/**
 * A stream that replaces a closed `FetchEventSource` by a new one. A hidden tab has no stream, because a browser has
 * six connections for all its tabs.
 *
 * A handler with an event's name receives the event's data. Four more handlers receive no data:
 * - `onStart`: a new source is about to connect;
 * - `onOpen`: the stream opened for the first time;
 * - `onGap`: events may have been missed;
 * - `onRejected`: the service rejected the request.
 */
export class EventStream {
  /** @type {FetchEventSource | null} */
  #source = null;
  #timer = 0;
  #retryDelay = RETRY_DELAY.first;
  #isFinished = false;
  #hasGap = false;
  #hasOpened = false;

  /**
   * @param {ConnectionStatus} connection
   * @param {() => string} getPath returns the path of the next request
   * @param {Handlers} handlers
   */
  constructor(connection, getPath, handlers) {
    this.connection = connection;
    this.getPath = getPath;
    this.handlers = handlers;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#open();
  }

  /** Whether the stream has ended, or was closed. */
  get isFinished() {
    return this.#isFinished;
  }

  /** Do not reopen the stream: the service ends it with 204. */
  finish() {
    this.#isFinished = true;
  }

  close() {
    this.#isFinished = true;
    this.connection.streamClosed();
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#closeSource();
  }

  #open() {
    this.#closeSource();
    if (document.hidden) return;
    this.handlers.onStart?.({});
    const source = new FetchEventSource(resolveUrl(this.getPath()));
    this.#source = source;
    source.addEventListener("open", () => this.#onOpen());
    source.addEventListener("error", () => this.#onError(source));
    for (const [name, handler] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => handler(JSON.parse(/** @type {MessageEvent} */ (event).data)));
    }
  }

  #onOpen() {
    this.#retryDelay = RETRY_DELAY.first;
    this.connection.streamOpened();
    if (!this.#hasOpened && this.handlers.onOpen) this.handlers.onOpen({});
    else if (this.#hasGap) this.handlers.onGap?.({});
    this.#hasOpened = true;
    this.#hasGap = false;
  }

  /** @param {FetchEventSource} source */
  #onError(source) {
    if (this.#isFinished || source !== this.#source) return;
    this.connection.streamFailed();
    if (!source.isClosed) return;
    this.#hasGap = true;
    this.handlers.onRejected?.({});
    if (this.#isFinished) return;
    this.#timer = setTimeout(() => this.#open(), this.#retryDelay);
    this.#retryDelay = Math.min(this.#retryDelay * 2, RETRY_DELAY.last);
  }

  #closeSource() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #onVisibility = () => {
    if (this.#isFinished) return;
    this.#hasGap = true;
    this.#open();
  };
}
