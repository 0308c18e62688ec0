/** Finished jobs per time bucket, and how long they took. */

/** @typedef {import("./model.js").JobEvent} JobEvent */
/** @typedef {{starts: number[], completed: number[], failed: number[], cancelled: number[], medians: (number | null)[]}} Series */
/** @typedef {{completed: number, failed: number, cancelled: number, durations: DurationHistogram}} Bucket */

const MINUTE = 60_000;
const FINAL_STATUSES = /** @type {const} */ (["completed", "failed", "cancelled"]);

/** The time ranges to choose from, by their name in the address. Lengths are in ms. */
export const RANGES = /** @type {const} */ ({
  "15m": { name: "15 minutes", short: "15 min", length: 15 * MINUTE, bucket: MINUTE },
  "1h": { name: "hour", short: "1 h", length: 60 * MINUTE, bucket: MINUTE },
  "6h": { name: "6 hours", short: "6 h", length: 360 * MINUTE, bucket: 5 * MINUTE },
});

/** Durations are counted in steps of 1 %. */
const STEP = Math.log(1.01);
const MIN_SECONDS = 0.001;

/** Counts of durations on a logarithmic scale. Its size depends on the range of durations, not on their number. */
export class DurationHistogram {
  /** @type {Map<number, number>} */
  #counts = new Map();

  /** @param {number} seconds */
  add(seconds) {
    const step = Math.round(Math.log(Math.max(seconds, MIN_SECONDS)) / STEP);
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + 1);
  }

  /** @param {DurationHistogram} other */
  addAll(other) {
    for (const [step, count] of other.#counts) this.#counts.set(step, (this.#counts.get(step) ?? 0) + count);
  }

  /** The median in seconds, null if there are no durations. */
  get median() {
    const sorted = [...this.#counts].sort(([one], [other]) => one - other);
    let remaining = sorted.reduce((sum, [, count]) => sum + count, 0) / 2;
    for (const [step, count] of sorted) {
      remaining -= count;
      if (remaining <= 0) return Math.exp(step * STEP);
    }
    return null;
  }
}

export class Throughput {
  /** @type {Map<number, Bucket>} */
  #buckets = new Map();

  /** @param {{length: number, bucket: number}} range */
  constructor({ length, bucket }) {
    this.length = length;
    this.bucket = bucket;
  }

  /**
   * Count a job that finished. Other events are ignored.
   * @param {JobEvent} event
   */
  add({ status, at, created_at }) {
    if (!isFinalStatus(status) || !at || !created_at) return;
    const finished = Date.parse(at);
    const start = finished - (finished % this.bucket);
    const bucket = this.#buckets.get(start) ?? emptyBucket();
    this.#buckets.set(start, bucket);
    bucket[status] += 1;
    bucket.durations.add((finished - Date.parse(created_at)) / 1000);
  }

  clear() {
    this.#buckets.clear();
  }

  /**
   * Return the data of the charts: jobs finished per minute by status, and the median seconds from creation to finish.
   * @param {number} now
   * @returns {Series}
   */
  series(now) {
    const series = /** @type {Series} */ ({ starts: [], completed: [], failed: [], cancelled: [], medians: [] });
    const last = now - (now % this.bucket);
    for (let start = last - this.length + this.bucket; start <= last; start += this.bucket) {
      const bucket = this.#buckets.get(start);
      series.starts.push(start);
      for (const status of FINAL_STATUSES) series[status].push(((bucket?.[status] ?? 0) * MINUTE) / this.bucket);
      series.medians.push(bucket?.durations.median ?? null);
    }
    this.#dropUntil(last - this.length);
    return series;
  }

  /** Return the finished jobs by status, and their median duration, over the whole range. */
  summary() {
    const sum = emptyBucket();
    for (const bucket of this.#buckets.values()) {
      for (const status of FINAL_STATUSES) sum[status] += bucket[status];
      sum.durations.addAll(bucket.durations);
    }
    const { durations, ...counts } = sum;
    return { ...counts, median: durations.median };
  }

  /** @param {number} time */
  #dropUntil(time) {
    for (const start of this.#buckets.keys()) if (start <= time) this.#buckets.delete(start);
  }
}

/** @returns {Bucket} */
function emptyBucket() {
  return { completed: 0, failed: 0, cancelled: 0, durations: new DurationHistogram() };
}

/**
 * @param {string} status
 * @returns {status is (typeof FINAL_STATUSES)[number]}
 */
function isFinalStatus(status) {
  return FINAL_STATUSES.some((name) => name === status);
}
