/** Reading again: soon after something happened, but not for each of many things, and now and then in any case. */

/** After how many ms a reading that failed is tried again. */
const AGAIN = 3000;

/** @typedef {{atMost: number, atLeast?: number}} Pace ms between two readings: no less than, and no more than */

export class Refresher {
  #timer = 0;
  #due = Infinity;
  #last = -Infinity;
  #isReading = false;
  #isStopped = false;
  /** After how many ms the next reading is wanted, of what was asked for while one was under way. */
  #wanted = Infinity;

  /**
   * @param {() => Promise<void>} action what is tried again where it throws
   * @param {Pace} pace
   * @param {(error: unknown) => void} failed is told what it threw
   */
  constructor(action, { atMost, atLeast = Infinity }, failed) {
    this.action = action;
    this.atMost = atMost;
    this.atLeast = atLeast;
    this.failed = failed;
  }

  /** Read at once, or as soon as the reading that is under way is done. */
  now() {
    if (this.#isReading) this.#wanted = 0;
    else this.#read();
  }

  /** Read once it is time. */
  soon() {
    if (this.#isReading) this.#wanted = Math.min(this.#wanted, this.atMost);
    else this.#plan(this.atMost - (performance.now() - this.#last));
  }

  /** Read no more. */
  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #read() {
    clearTimeout(this.#timer);
    this.#due = this.#wanted = Infinity;
    this.#isReading = true;
    this.#last = performance.now();
    try {
      await this.action();
    } catch (error) {
      this.#wanted = Math.min(this.#wanted, AGAIN);
      if (!this.#isStopped) this.failed(error);
    }
    this.#isReading = false;
    this.#plan(Math.min(this.#wanted, this.atLeast));
  }

  /** @param {number} ms */
  #plan(ms) {
    const due = performance.now() + Math.max(ms, 0);
    if (this.#isStopped || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#read(), Math.max(ms, 0));
  }
}
