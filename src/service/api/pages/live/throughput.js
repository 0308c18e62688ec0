/** What came to an end in a stretch of time, bucket by bucket, and how long that took. */

import { isFinal } from "./records.js";

/** @typedef {import("./records.js").JobEvent} JobEvent */
/** @typedef {{starts: number[], completed: number[], failed: number[], cancelled: number[], medians: (number | null)[]}} Series */
/** @typedef {Record<string, number[]>} Bucket how long the jobs took, in seconds, by the status that they ended with */

const MINUTE = 60_000;

/** The stretches of time that can be looked at, by the name in the address, in ms. */
export const STRETCHES = /** @type {const} */ ({
  "15m": { name: "15 minutes", short: "15 min", length: 15 * MINUTE, bucket: MINUTE },
  "1h": { name: "hour", short: "1 h", length: 60 * MINUTE, bucket: MINUTE },
  "6h": { name: "6 hours", short: "6 h", length: 360 * MINUTE, bucket: 5 * MINUTE },
});

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
    if (!isFinal(status) || !at || !created_at) return;
    const ended = Date.parse(at);
    const start = ended - (ended % this.bucket);
    const bucket = this.#buckets.get(start) ?? { completed: [], failed: [], cancelled: [] };
    this.#buckets.set(start, bucket);
    bucket[status]?.push((ended - Date.parse(created_at)) / 1000);
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
      const bucket = this.#buckets.get(start) ?? {};
      series.starts.push(start);
      for (const status of /** @type {const} */ (["completed", "failed", "cancelled"])) {
        series[status].push(((bucket[status]?.length ?? 0) * MINUTE) / this.bucket);
      }
      series.medians.push(median(Object.values(bucket).flat()));
    }
    this.#drop(last - this.length);
    return series;
  }

  /** How many jobs ended by status, and the median of their times, over all that is kept. */
  summary() {
    const all = [...this.#buckets.values()];
    const [completed, failed, cancelled] = ["completed", "failed", "cancelled"].map((status) =>
      all.flatMap((one) => one[status] ?? []),
    );
    const lengths = {
      completed: completed?.length ?? 0,
      failed: failed?.length ?? 0,
      cancelled: cancelled?.length ?? 0,
    };
    return { ...lengths, median: median([completed, failed, cancelled].flatMap((one) => one ?? [])) };
  }

  /** @param {number} before */
  #drop(before) {
    for (const start of this.#buckets.keys()) if (start <= before) this.#buckets.delete(start);
  }
}

/**
 * The middle of numbers, null of none.
 * @param {number[]} numbers
 */
export function median(numbers) {
  const sorted = numbers.toSorted((one, other) => one - other);
  const half = sorted.length >> 1;
  const [low, high] = [sorted[half - 1], sorted[half]];
  if (high === undefined) return null;
  return sorted.length % 2 || low === undefined ? high : (low + high) / 2;
}
