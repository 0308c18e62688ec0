/** The overview: job counts, stale jobs, throughput, queues and the drain. */

import { getJson } from "./api.js";
import { statusBadge } from "./components.js";
import { el, setText, show } from "./dom.js";
import { drainCard } from "./drain.js";
import { EventStream } from "./event-stream.js";
import { STATUSES } from "./model.js";
import { onboarding } from "./onboarding.js";
import { Poller } from "./poller.js";
import { queueTable } from "./queues.js";
import { jobHref, jobsHref } from "./router.js";
import { staleJobs } from "./stale-jobs.js";
import { ThroughputCard } from "./throughput-card.js";
import { setTime, timeElement } from "./time.js";

/** @typedef {import("./model.js").Stats} Stats */

/** Return the view. @param {import("./connection-status.js").ConnectionStatus} connection */
export function overview(connection) {
  const tiles = STATUSES.map((status) => tile(status));
  const stale = staleJobs();
  const throughput = new ThroughputCard();
  const [queues, drain] = [queueTable(() => poller.now()), drainCard(() => poller.now())];
  const empty = onboarding();
  const cards = el("div", { class: "cards" }, stale.node, throughput.node, queues.node, drain.node);
  const node = el(
    "div",
    { class: "view" },
    el("h1", { tabindex: -1 }, "Overview"),
    el("ul", { class: "tiles" }, ...tiles.map((one) => one.node)),
    empty,
    cards,
  );

  const poller = new Poller(refresh, { minInterval: 1000, maxInterval: 10_000 }, () => connection.check());
  /** @type {EventStream | null} */
  let stream = null;

  async function refresh() {
    const [stats, { items }, drainStatus] = await Promise.all([
      getJson("v1/stats"),
      getJson("v1/queues"),
      getJson("v1/drain"),
    ]);
    update(stats);
    queues.update(items);
    drain.update(drainStatus);
    await stale.update(stats);
  }

  /** @param {Stats} stats */
  function update(stats) {
    for (const one of tiles) one.update(stats);
    const isEmpty = Object.values(stats.statuses).every((count) => count === 0);
    show(empty, isEmpty);
    show(throughput.node, !isEmpty);
  }

  function openStream() {
    stream?.close();
    stream = new EventStream(connection, () => `v1/events?since=${encodeURIComponent(throughput.since())}`, {
      onStart: () => throughput.clear(),
      reset: () => poller.now(),
      changed: (event) => {
        throughput.add(event);
        poller.soon();
      },
      deleted: () => poller.soon(),
      expired: () => poller.soon(),
      onGap: () => poller.now(),
    });
  }

  return {
    node,
    title: "Overview",
    /** @param {import("./router.js").Route} route */
    show({ params }) {
      throughput.setRange(params.get("range") ?? "");
      openStream();
      poller.now();
    },
    refresh: () => poller.now(),
    tick: () => throughput.tick(),
    close() {
      stream?.close();
      poller.stop();
      throughput.close();
    },
  };
}

/** @param {(typeof STATUSES)[number]} status */
function tile(status) {
  const count = el("a", { class: "count number", href: jobsHref({ status }) }, "–");
  const detail = el("small");
  const oldest = status === "pending" ? oldestPending() : null;
  const node = el("li", { class: `tile ${status}` }, statusBadge(status), count, detail, oldest?.node);
  return {
    node,
    /** @param {Stats} stats */
    update(stats) {
      setText(count, (stats.statuses[status] ?? 0).toLocaleString());
      count.setAttribute("aria-label", `${count.textContent} ${status}`);
      setText(detail, detailText(status, stats));
      oldest?.update(stats);
    },
  };
}

/**
 * @param {string} status
 * @param {Stats} stats
 */
function detailText(status, { running, delayed }) {
  if (status === "running")
    return `${running.leased.toLocaleString()} with an active lease, ${running.unleased.toLocaleString()} without`;
  return status === "pending" && delayed ? `${delayed.toLocaleString()} delayed` : "";
}

function oldestPending() {
  const age = timeElement(new Date(0).toISOString(), "age");
  const link = el("a", { class: "id" });
  const node = el("small", { class: "oldest", hidden: true }, "oldest: ", link, ", waiting ", age);
  return {
    node,
    /** @param {Stats} stats */
    update({ oldest_pending }) {
      show(node, oldest_pending);
      if (!oldest_pending) return;
      setTime(age, oldest_pending.created_at);
      setText(link, oldest_pending.job_id);
      link.href = jobHref(oldest_pending.job_id);
    },
  };
}
