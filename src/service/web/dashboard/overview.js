/** All of it at a glance: counts, what is stuck, how it goes over time, queues, drain. */

import { toJob, toJobs } from "./router.js";
import { read } from "./api.js";
import { badge } from "./components.js";
import { el, show, write } from "./dom.js";
import { drainCard } from "./drain.js";
import { firstJob } from "./onboarding.js";
import { queueTable } from "./queues.js";
import { STATUSES } from "./model.js";
import { Refresher } from "./poller.js";
import { staleList } from "./stale-jobs.js";
import { Stream } from "./event-stream.js";
import { tell, timeElement } from "./time.js";
import { Trend } from "./throughput-card.js";

/** @typedef {import("./model.js").Stats} Stats */

/** Makes the view. @param {import("./connection-status.js").Connection} connection */
export function overview(connection) {
  const tiles = STATUSES.map((status) => tile(status));
  const stale = staleList();
  const trend = new Trend();
  const [queues, drain] = [queueTable(() => refresher.now()), drainCard(() => refresher.now())];
  const first = firstJob();
  const rest = el("div", { class: "rest" }, stale.node, trend.node, queues.node, drain.node);
  const node = el(
    "div",
    { class: "view" },
    el("h1", { tabindex: -1 }, "Overview"),
    el("ul", { class: "tiles" }, ...tiles.map((one) => one.node)),
    first,
    rest,
  );

  const refresher = new Refresher(refresh, { atMost: 1000, atLeast: 10_000 }, () => connection.look());
  /** @type {Stream | null} */
  let stream = null;

  async function refresh() {
    const [stats, { items }, drained] = await Promise.all([read("v1/stats"), read("v1/queues"), read("v1/drain")]);
    update(stats);
    queues.update(items);
    drain.update(drained);
    await stale.update(stats);
  }

  /** @param {Stats} stats */
  function update(stats) {
    for (const one of tiles) one.update(stats);
    const isEmpty = Object.values(stats.statuses).every((count) => count === 0);
    show(first, isEmpty);
    show(trend.node, !isEmpty);
  }

  function listen() {
    stream?.close();
    stream = new Stream(connection, () => `v1/events?since=${encodeURIComponent(trend.since())}`, {
      begins: () => trend.forget(),
      reset: () => refresher.now(),
      changed: (event) => {
        trend.add(event);
        refresher.soon();
      },
      deleted: () => refresher.soon(),
      expired: () => refresher.soon(),
      again: () => refresher.now(),
    });
  }

  return {
    node,
    title: "Overview",
    /** @param {import("./router.js").Route} route */
    show({ asked }) {
      trend.look(asked.get("stretch") ?? "");
      listen();
      refresher.now();
    },
    refresh: () => refresher.now(),
    tick: () => trend.tick(),
    close() {
      stream?.close();
      refresher.stop();
      trend.close();
    },
  };
}

/** @param {(typeof STATUSES)[number]} status */
function tile(status) {
  const count = el("a", { class: "count number", href: toJobs({ status }) }, "–");
  const more = el("small");
  const oldest = status === "pending" ? oldestPending() : null;
  const node = el("li", { class: `tile ${status}` }, badge(status), count, more, oldest?.node);
  return {
    node,
    /** @param {Stats} stats */
    update(stats) {
      write(count, (stats.statuses[status] ?? 0).toLocaleString());
      count.setAttribute("aria-label", `${count.textContent} ${status}`);
      write(more, moreOf(status, stats));
      oldest?.update(stats);
    },
  };
}

/**
 * @param {string} status
 * @param {Stats} stats
 */
function moreOf(status, { running, delayed }) {
  if (status === "running")
    return `${running.leased.toLocaleString()} with a lease, ${running.unleased.toLocaleString()} without`;
  return status === "pending" && delayed ? `${delayed.toLocaleString()} not due yet` : "";
}

function oldestPending() {
  const age = timeElement(new Date(0).toISOString(), "age");
  const link = el("a", { class: "id" });
  const node = el("small", { class: "oldest", hidden: true }, "oldest ", link, " waits ", age);
  return {
    node,
    /** @param {Stats} stats */
    update({ oldest_pending }) {
      show(node, oldest_pending);
      if (!oldest_pending) return;
      tell(age, oldest_pending.created_at);
      write(link, oldest_pending.job_id);
      link.href = toJob(oldest_pending.job_id);
    },
  };
}
