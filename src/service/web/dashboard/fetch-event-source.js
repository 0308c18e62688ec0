/** Events over `fetch`, which can carry an API key as an `EventSource` cannot; otherwise the same (HTML Standard, 9.2). */

import { refusal } from "./api.js";
import { authorization } from "./api-key.js";

const EVENT_STREAM = "text/event-stream";
/** What a browser waits before it connects again, in ms, unless the service says. */
const RETRY = 3000;

export class Events extends EventTarget {
  isClosed = false;
  #retry = RETRY;
  #lastId = "";
  #timer = 0;
  #stopping = new AbortController();

  /** @param {string} url */
  constructor(url) {
    super();
    this.url = url;
    this.#connect();
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.#timer);
    this.#stopping.abort();
  }

  /** Listen until the connection is lost, and again after a while; any answer but 200 is the end. */
  async #connect() {
    try {
      const response = await this.#ask();
      if (isStream(response)) await this.#hear(response.body);
      else await this.#giveUp(response);
    } catch {
      // The connection was lost.
    }
    if (!this.#stopping.signal.aborted) this.dispatchEvent(new Event("error"));
    if (!this.isClosed) this.#timer = setTimeout(() => this.#connect(), this.#retry);
  }

  #ask() {
    const last = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
    const headers = { Accept: EVENT_STREAM, ...last, ...authorization() };
    const options = { headers, cache: "no-store", signal: this.#stopping.signal };
    return fetch(this.url, /** @type {RequestInit} */ (options));
  }

  /** @param {Response} response */
  async #giveUp(response) {
    this.isClosed = true;
    const text = await response.text();
    if (!response.ok) refusal(response, text, "GET");
  }

  /** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body */
  async #hear(body) {
    this.dispatchEvent(new Event("open"));
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const frames = new Frames();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      for (const { name, id, data, retry } of frames.in(read.value)) {
        this.#lastId = id ?? this.#lastId;
        this.#retry = retry ?? this.#retry;
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
function isStream(response) {
  const type = response.headers.get("Content-Type") ?? "";
  return response.status === 200 && response.body !== null && type.startsWith(EVENT_STREAM);
}

/** @typedef {{name: string, id: string | null, data: string | null, retry: number | null}} Frame */

class Frames {
  #rest = "";
  /** @type {string[]} */
  #lines = [];

  /**
   * The frames that end in a further piece of text. A carriage return at its end may be half of a line's end.
   * @param {string} text
   */
  *in(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      if (line) this.#lines.push(line);
      else yield frameOf(this.#lines.splice(0));
    }
  }
}

/** @param {string[]} lines @returns {Frame} */
function frameOf(lines) {
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
