/** Reading again: soon after something happened, but not for each of many things, and now and then in any case. */

export class Refresher {
  #timer = 0;
  #due = Infinity;
  #last = 0;
  #isReading = false;
  #isWanted = false;
  #isStopped = false;

  /**
   * @param {() => Promise<void>} action
   * @param {{atMost: number, atLeast?: number}} every ms between two readings: no less than, and no more than
   */
  constructor(action, { atMost, atLeast = Infinity }) {
    this.action = action;
    this.atMost = atMost;
    this.atLeast = atLeast;
  }

  /** Read at once, or as soon as the reading that is under way is done. */
  async now() {
    clearTimeout(this.#timer);
    this.#due = Infinity;
    if (this.#isReading) {
      this.#isWanted = true;
      return;
    }
    this.#isReading = true;
    this.#isWanted = false;
    this.#last = performance.now();
    await this.action();
    this.#isReading = false;
    this.#plan(this.#isWanted ? this.atMost : this.atLeast);
  }

  /** Read once it is time. */
  soon() {
    if (this.#isReading) this.#isWanted = true;
    else this.#plan(this.atMost - (performance.now() - this.#last));
  }

  /** Read no more. */
  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** @param {number} ms */
  #plan(ms) {
    const due = performance.now() + Math.max(ms, 0);
    if (this.#isStopped || due >= this.#due || due === Infinity) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.now(), Math.max(ms, 0));
  }
}
