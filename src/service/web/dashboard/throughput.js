/** What came to an end in a stretch of time, bucket by bucket, and how long that took. */

/** @typedef {import("./model.js").JobEvent} JobEvent */
/** @typedef {{starts: number[], completed: number[], failed: number[], cancelled: number[], medians: (number | null)[]}} Series */
/** @typedef {{completed: number, failed: number, cancelled: number, times: Times}} Bucket */

const MINUTE = 60_000;
const ENDS = /** @type {const} */ (["completed", "failed", "cancelled"]);

/** The stretches of time that can be looked at, by the name in the address, in ms. */
export const STRETCHES = /** @type {const} */ ({
  "15m": { name: "15 minutes", short: "15 min", length: 15 * MINUTE, bucket: MINUTE },
  "1h": { name: "hour", short: "1 h", length: 60 * MINUTE, bucket: MINUTE },
  "6h": { name: "6 hours", short: "6 h", length: 360 * MINUTE, bucket: 5 * MINUTE },
});

/** Two times whose difference is smaller than this share are not told apart. */
const STEP = Math.log(1.01);
const LEAST_SECONDS = 0.001;

/** How often something took how long: so many numbers as there are lengths, not as there are jobs. */
export class Times {
  /** @type {Map<number, number>} */
  #counts = new Map();

  /** @param {number} seconds */
  add(seconds) {
    const step = Math.round(Math.log(Math.max(seconds, LEAST_SECONDS)) / STEP);
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + 1);
  }

  /** @param {Times} others */
  addAll(others) {
    for (const [step, count] of others.#counts) this.#counts.set(step, (this.#counts.get(step) ?? 0) + count);
  }

  /** The time that half of them did not exceed, in seconds; null of none. */
  get median() {
    const all = [...this.#counts].sort(([one], [other]) => one - other);
    let left = all.reduce((sum, [, count]) => sum + count, 0) / 2;
    for (const [step, count] of all) {
      left -= count;
      if (left <= 0) return Math.exp(step * STEP);
    }
    return null;
  }
}

export class Throughput {
  /** @type {Map<number, Bucket>} */
  #buckets = new Map();

  /** @param {{length: number, bucket: number}} stretch */
  constructor({ length, bucket }) {
    this.length = length;
    this.bucket = bucket;
  }

  /**
   * Note a job's end; other events do not matter here.
   * @param {JobEvent} event
   */
  add({ status, at, created_at }) {
    if (!isEnd(status) || !at || !created_at) return;
    const ended = Date.parse(at);
    const start = ended - (ended % this.bucket);
    const bucket = this.#buckets.get(start) ?? { completed: 0, failed: 0, cancelled: 0, times: new Times() };
    this.#buckets.set(start, bucket);
    bucket[status] += 1;
    bucket.times.add((ended - Date.parse(created_at)) / 1000);
  }

  /** Begin anew. */
  forget() {
    this.#buckets.clear();
  }

  /**
   * What there is to draw at a time: finished per minute by status, and the median time to finish in seconds.
   * @param {number} now
   * @returns {Series}
   */
  series(now) {
    const series = /** @type {Series} */ ({ starts: [], completed: [], failed: [], cancelled: [], medians: [] });
    const last = now - (now % this.bucket);
    for (let start = last - this.length + this.bucket; start <= last; start += this.bucket) {
      const bucket = this.#buckets.get(start);
      series.starts.push(start);
      for (const status of ENDS) series[status].push(((bucket?.[status] ?? 0) * MINUTE) / this.bucket);
      series.medians.push(bucket?.times.median ?? null);
    }
    this.#drop(last - this.length);
    return series;
  }

  /** How many jobs ended by status, and the median of their times, over all that is kept. */
  summary() {
    const sum = { completed: 0, failed: 0, cancelled: 0, times: new Times() };
    for (const bucket of this.#buckets.values()) {
      for (const status of ENDS) sum[status] += bucket[status];
      sum.times.addAll(bucket.times);
    }
    const { times, ...counts } = sum;
    return { ...counts, median: times.median };
  }

  /** @param {number} before */
  #drop(before) {
    for (const start of this.#buckets.keys()) if (start <= before) this.#buckets.delete(start);
  }
}

/**
 * @param {string} status
 * @returns {status is (typeof ENDS)[number]}
 */
function isEnd(status) {
  return ENDS.some((end) => end === status);
}
