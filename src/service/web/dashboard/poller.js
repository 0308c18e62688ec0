/** Repeats a read: soon after a change, but not once per change, and at a maximum interval in any case. */

/** The delay in ms before a failed read is repeated. */
const RETRY_DELAY = 3000;

/** @typedef {{minInterval: number, maxInterval?: number}} Intervals ms between two reads */

export class Poller {
  #timer = 0;
  #due = Infinity;
  #lastStart = -Infinity;
  #isReading = false;
  #isStopped = false;
  /** The delay in ms before the next read, as requested while a read is in progress. */
  #requestedDelay = Infinity;

  /**
   * @param {() => Promise<void>} read repeated if it throws
   * @param {Intervals} intervals
   * @param {(error: unknown) => void} onError
   */
  constructor(read, { minInterval, maxInterval = Infinity }, onError) {
    this.read = read;
    this.minInterval = minInterval;
    this.maxInterval = maxInterval;
    this.onError = onError;
  }

  /** Read immediately, or when the read in progress has ended. */
  now() {
    if (this.#isReading) this.#requestedDelay = 0;
    else this.#run();
  }

  /** Read when the minimum interval has passed. */
  soon() {
    if (this.#isReading) this.#requestedDelay = Math.min(this.#requestedDelay, this.minInterval);
    else this.#schedule(this.minInterval - (performance.now() - this.#lastStart));
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #run() {
    clearTimeout(this.#timer);
    this.#due = this.#requestedDelay = Infinity;
    this.#isReading = true;
    this.#lastStart = performance.now();
    try {
      await this.read();
    } catch (error) {
      this.#requestedDelay = Math.min(this.#requestedDelay, RETRY_DELAY);
      if (!this.#isStopped) this.onError(error);
    }
    this.#isReading = false;
    this.#schedule(Math.min(this.#requestedDelay, this.maxInterval));
  }

  /** @param {number} ms */
  #schedule(ms) {
    const due = performance.now() + Math.max(ms, 0);
    if (this.#isStopped || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#run(), Math.max(ms, 0));
  }
}
