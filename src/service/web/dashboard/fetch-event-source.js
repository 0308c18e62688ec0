/** An `EventSource` over `fetch`, which can send an API key (HTML Standard, section 9.2). */

import { toError } from "./api.js";
import { authorization } from "./api-key.js";

const EVENT_STREAM = "text/event-stream";
/** The delay in ms before a reconnection, unless the service sends another one. */
const DEFAULT_RETRY_MS = 3000;

export class FetchEventSource extends EventTarget {
  isClosed = false;
  #retryMs = DEFAULT_RETRY_MS;
  #lastId = "";
  #timer = 0;
  #abort = new AbortController();

  /** @param {string} url */
  constructor(url) {
    super();
    this.url = url;
    this.#connect();
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  /** Read events until the connection is lost, then reconnect. Any status but 200 closes the source. */
  async #connect() {
    try {
      const response = await this.#request();
      if (isEventStream(response)) await this.#readEvents(response.body);
      else await this.#reject(response);
    } catch {
      // The connection was lost.
    }
    if (!this.#abort.signal.aborted) this.dispatchEvent(new Event("error"));
    if (!this.isClosed) this.#timer = setTimeout(() => this.#connect(), this.#retryMs);
  }

  #request() {
    const lastEventId = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
    const headers = { Accept: EVENT_STREAM, ...lastEventId, ...authorization() };
    const options = { headers, cache: "no-store", signal: this.#abort.signal };
    return fetch(this.url, /** @type {RequestInit} */ (options));
  }

  /** @param {Response} response */
  async #reject(response) {
    this.isClosed = true;
    const text = await response.text();
    if (!response.ok) toError(response, text, "GET");
  }

  /** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body */
  async #readEvents(body) {
    this.dispatchEvent(new Event("open"));
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new FrameParser();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      for (const { name, id, data, retry } of parser.parse(chunk.value)) {
        this.#lastId = id ?? this.#lastId;
        this.#retryMs = retry ?? this.#retryMs;
        if (data !== null) this.dispatchEvent(new MessageEvent(name, { data, lastEventId: this.#lastId }));
        if (this.isClosed) return;
      }
    }
  }
}

/**
 * @param {Response} response
 * @returns {response is Response & {body: ReadableStream<Uint8Array<ArrayBuffer>>}}
 */
function isEventStream(response) {
  const type = response.headers.get("Content-Type") ?? "";
  return response.status === 200 && response.body !== null && type.startsWith(EVENT_STREAM);
}

/** @typedef {{name: string, id: string | null, data: string | null, retry: number | null}} Frame */

class FrameParser {
  #partialLine = "";
  /** @type {string[]} */
  #lines = [];

  /**
   * Return the frames that a further chunk completes. A carriage return at its end may be half of a line ending.
   * @param {string} chunk
   */
  *parse(chunk) {
    const lines = (this.#partialLine + chunk).split(/\r\n|\n|\r(?!$)/);
    this.#partialLine = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      if (line) this.#lines.push(line);
      else yield parseFrame(this.#lines.splice(0));
    }
  }
}

/** @param {string[]} lines @returns {Frame} */
function parseFrame(lines) {
  /** @type {Frame} */
  const frame = { name: "message", id: null, data: null, retry: null };
  for (const line of lines) {
    const [, field = "", value = ""] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line) ?? [];
    if (field === "event") frame.name = value;
    else if (field === "data") frame.data = frame.data === null ? value : `${frame.data}\n${value}`;
    else if (field === "id" && !value.includes("\0")) frame.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) frame.retry = Number(value);
  }
  return frame;
}
