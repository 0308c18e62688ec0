/** Events of the service as they come, over every interruption. */

import { addressOf } from "./api.js";
import { Events } from "./fetch-event-source.js";

/** @typedef {import("./connection-status.js").Connection} Connection */
/** @typedef {Record<string, (data: any) => void>} Ears */

/** After how many ms a stream that was refused is asked for again; twice as long each time, up to the last. */
const AGAIN = { first: 1000, last: 15_000 };

/**
 * `Events` that are made anew where they give up (any answer but 200), and that rest while nobody looks:
 * a browser has six connections for all its tabs. Beside the events, `ears.begins` is called before each first event of
 * a stream, `ears.opened` when it hears for the first time, `ears.again` when something may have been missed,
 * `ears.refused` when the service would not let it in.
 */
export class Stream {
  /** @type {Events | null} */
  #source = null;
  #timer = 0;
  #wait = AGAIN.first;
  #isOver = false;
  #mayHaveMissed = false;
  #hasHeard = false;

  /**
   * @param {Connection} connection
   * @param {() => string} path where the stream is at this moment
   * @param {Ears} ears what to do on each event
   */
  constructor(connection, path, ears) {
    this.connection = connection;
    this.path = path;
    this.ears = ears;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#open();
  }

  /** Nothing more will come: leave it to the stream to be told so (204). */
  end() {
    this.#isOver = true;
  }

  /** Listen no more. */
  close() {
    this.#isOver = true;
    this.connection.rests();
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#shut();
  }

  /** Whether it listens, or tries to. */
  get isOpen() {
    return this.#source !== null && !this.#source.isClosed;
  }

  #open() {
    this.#shut();
    if (document.hidden) return;
    this.ears.begins?.({});
    const source = new Events(addressOf(this.path()));
    this.#source = source;
    source.addEventListener("open", () => this.#opened());
    source.addEventListener("error", () => this.#failed(source));
    for (const [name, ear] of Object.entries(this.ears)) {
      source.addEventListener(name, (event) => ear(JSON.parse(/** @type {MessageEvent} */ (event).data)));
    }
  }

  #opened() {
    this.#wait = AGAIN.first;
    this.connection.hears();
    if (!this.#hasHeard && this.ears.opened) this.ears.opened({});
    else if (this.#mayHaveMissed) this.ears.again?.({});
    this.#hasHeard = true;
    this.#mayHaveMissed = false;
  }

  /** @param {Events} source */
  #failed(source) {
    if (this.#isOver || source !== this.#source) return;
    this.connection.isDeaf();
    if (!source.isClosed) return;
    this.#mayHaveMissed = true;
    this.ears.refused?.({});
    if (this.#isOver) return;
    this.#timer = setTimeout(() => this.#open(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, AGAIN.last);
  }

  #shut() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #onVisibility = () => {
    if (this.#isOver) return;
    this.#mayHaveMissed = true;
    this.#open();
  };
}
