"""The results of a run as text."""

from collections.abc import Sequence

from tests.chaos.runner import Round


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value at a percentile, given as a share from 0 to 1; 0 without values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def round_line(result: Round) -> str:
    """Return one line about a round."""
    recovered = max(result.recovery_times, default=0)
    verdict = f"{len(result.violations)} violations" if result.violations else "ok"
    if result.lost:
        verdict += f", {result.lost} acknowledged changes lost"
    return (
        f"{result.number:4} {'+'.join(result.faults):40} {result.requests:6} requests "
        f"{result.acknowledged:5} acknowledged {result.unknown:4} unknown  "
        f"recovered in {recovered:.2f} s  {result.seconds:.1f} s  {verdict}"
    )


def table(rounds: Sequence[Round]) -> str:
    """Return the results of all rounds as Markdown: a table by fault, and the totals."""
    names = sorted({name for result in rounds for name in result.faults})
    rows = ["| fault | rounds | requests | unknown | longest recovery |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        hit = [result for result in rounds if name in result.faults]
        recoveries = [
            recovery
            for result in hit
            for fault, recovery in zip(result.faults, result.recovery_times, strict=False)
            if fault == name
        ]
        requests, unknown = sum(result.requests for result in hit), sum(result.unknown for result in hit)
        rows.append(f"| {name} | {len(hit)} | {requests} | {unknown} | {max(recoveries):.2f} s |")
    return "\n".join([*rows, "", *totals(rounds)])


def totals(rounds: Sequence[Round]) -> list[str]:
    """Return a table of totals over all rounds."""
    unavailable = [seconds for result in rounds for seconds in result.unavailable_times]
    health = [seconds for result in rounds for seconds in result.health_times]
    recoveries = [seconds for result in rounds for seconds in result.recovery_times]
    outages = [
        f"| {name}, p50 / p99 / max | {_times(times)} ({len(times)} requests) |"
        for name, times in (
            ("jobs of other masters, before a master was killed", [s for one in rounds for s in one.times_before]),
            ("jobs of other masters, until its failover", [s for one in rounds for s in one.times_of_others]),
            ("jobs of the killed master, until its failover", [s for one in rounds for s in one.times_of_hit]),
        )
        if times
    ]
    return [
        "| | |",
        "| --- | --- |",
        f"| rounds, faults | {len(rounds)}, {len(recoveries)} |",
        f"| requests | {sum(result.requests for result in rounds)} |",
        f"| changes acknowledged | {sum(result.acknowledged for result in rounds)} |",
        f"| changes rejected | {sum(result.rejected for result in rounds)} |",
        f"| changes with unknown outcome | {sum(result.unknown for result in rounds)} |",
        f"| acknowledged changes lost where a loss is allowed | {sum(result.lost for result in rounds)} |",
        f"| 503 while Redis is unavailable, p50 / p99 / max | {_times(unavailable)} |",
        f"| `/health`, p50 / p99 / max | {_times(health)} |",
        f"| recovery, p50 / p99 / max | {_times(recoveries)} |",
        *outages,
        f"| max memory of a process | {max(result.memory for result in rounds) >> 20} MiB |",
        f"| max descriptors of an idle process | {max(result.descriptors for result in rounds)} |",
        f"| violations | {sum(len(result.violations) for result in rounds)} |",
    ]


def _times(values: Sequence[float]) -> str:
    return " / ".join(f"{percentile(values, share) * 1000:.0f} ms" for share in (0.5, 0.99, 1.0))
