"""All measurements, into `docs/benchmarks.md`, or those that are named.

`python -m benchmarks [--rounds N] [PART …]`
"""

import argparse
from typing import Final

from benchmarks import event_latency, http_throughput, memory, peers_library, scaling, startup, targets
from benchmarks.report import Measurement, Report

PARTS: Final[dict[str, tuple[str, Measurement]]] = {
    "http": ("Over HTTP", http_throughput.measure),
    "library": ("The library and its peers", peers_library.measure),
    "growth": ("As jobs become many", scaling.measure),
    "memory": ("Memory", memory.measure),
    "watching": ("Watching", event_latency.measure),
    "start": ("Start", startup.measure),
}


def main() -> None:
    """Measure, print, and write the document where all was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="all of them by default")
    parser.add_argument("--rounds", type=int, default=5, help="of each scene, of which the medians count")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    report = Report()
    for name in given.parts or PARTS:
        title, measure = PARTS[name]
        report.part(title)
        measure(given.rounds, report)
    if not given.parts:
        report.part("The bars")
        report.add(targets.table(report.tables))
        report.write()


if __name__ == "__main__":
    main()
