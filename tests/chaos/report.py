"""The figures of a run, as a table."""

from collections.abc import Sequence

from tests.chaos.runner import Round


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of `values` lies; 0 for none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def line(one: Round) -> str:
    """Return what a round came to, in a line."""
    recovered = max(one.recoveries, default=0)
    found = f"{len(one.violations)} violations" if one.violations else "sound"
    return (
        f"{one.number:4} {'+'.join(one.faults):40} {one.requests:6} requests {one.acknowledged:5} acknowledged "
        f"{one.unknown:4} unknown  recovered in {recovered:.2f} s  {one.took:.1f} s  {found}"
    )


def table(rounds: Sequence[Round]) -> str:
    """Return the figures of all rounds, in Markdown."""
    names = sorted({name for one in rounds for name in one.faults})
    rows = ["| fault | times | requests | unknown | longest recovery |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        hit = [one for one in rounds if name in one.faults]
        longest = max(
            one.recoveries[one.faults.index(name)] for one in hit if len(one.recoveries) > one.faults.index(name)
        )
        requests, unknown = sum(one.requests for one in hit), sum(one.unknown for one in hit)
        rows.append(f"| {name} | {len(hit)} | {requests} | {unknown} | {longest:.2f} s |")
    return "\n".join([*rows, "", *summary(rounds)])


def summary(rounds: Sequence[Round]) -> list[str]:
    """Return what all rounds came to."""
    unavailable = [took for one in rounds for took in one.unavailable]
    health = [took for one in rounds for took in one.health]
    recoveries = [took for one in rounds for took in one.recoveries]
    return [
        "| | |",
        "| --- | --- |",
        f"| rounds, faults | {len(rounds)}, {len(recoveries)} |",
        f"| requests sent | {sum(one.requests for one in rounds)} |",
        f"| changes acknowledged | {sum(one.acknowledged for one in rounds)} |",
        f"| changes refused | {sum(one.refused for one in rounds)} |",
        f"| changes of unknown outcome | {sum(one.unknown for one in rounds)} |",
        f"| acknowledged creations lost where that is allowed | {sum(one.lost for one in rounds)} |",
        f"| 503 of an unavailable store, p50 / p99 / longest | {_times(unavailable)} |",
        f"| `/health`, p50 / p99 / longest | {_times(health)} |",
        f"| recovery, p50 / p99 / longest | {_times(recoveries)} |",
        f"| most memory of a process | {max(one.memory for one in rounds) >> 20} MiB |",
        f"| most descriptors of a process at rest | {max(one.descriptors for one in rounds)} |",
        f"| violations | {sum(len(one.violations) for one in rounds)} |",
    ]


def _times(values: Sequence[float]) -> str:
    return " / ".join(f"{percentile(values, share) * 1000:.0f} ms" for share in (0.5, 0.99, 1.0))
