"""Run all benchmarks and write docs/benchmarks.md, or run and print only some parts.

`python -m benchmarks [--rounds N] [--write] [PART …]`
"""

import argparse
from typing import Final

from benchmarks import (
    bulk,
    claims,
    cluster,
    creates,
    event_latency,
    expiry,
    http_throughput,
    memory,
    partitions,
    peers_library,
    scaling,
    startup,
    store,
    targets,
)
from benchmarks.report import Measurement, Report

PARTS: Final[dict[str, tuple[str, Measurement]]] = {
    "http": ("Over HTTP", http_throughput.measure),
    "library": ("Library and peers", peers_library.measure),
    "store": ("Cost of a change in Redis", store.measure),
    "creates": ("Creation of many jobs", creates.measure),
    "bulk": ("Bulk actions", bulk.measure),
    "claims": ("Claims of several jobs", claims.measure),
    "expiry": ("Many expiries at one moment", expiry.measure),
    "partitions": ("Several partitions", partitions.measure),
    "cluster": ("A cluster", cluster.measure),
    "growth": ("Scaling with the number of jobs", scaling.measure),
    "memory": ("Memory", memory.measure),
    "watching": ("Event streams", event_latency.measure),
    "start": ("Startup", startup.measure),
}
#: The title of the last section.
TARGETS: Final = "Targets"


def main() -> None:
    """Measure and print. Without PART arguments, or with `--write`, also write the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="samples for each median")
    parser.add_argument("--write", action="store_true", help="replace the sections of the parts in the document")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    report = Report()
    for name in args.parts or PARTS:
        title, measure = PARTS[name]
        report.section(title)
        measure(args.rounds, report)
    report.section(TARGETS)
    report.add(targets.table(report.tables, with_missing=not args.parts))
    if not args.parts:
        report.write()
    elif args.write:
        report.write_sections([*(title for title, _ in PARTS.values()), TARGETS], targets.table)


if __name__ == "__main__":
    main()
