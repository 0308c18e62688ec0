"""Run many rounds of faults under load and print the results; exit code 1 if a check found a violation."""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from service.embedded.binary import find
from tests.chaos import report, runner
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import Round, Scale
from tests.helpers.partitions import PARTITIONS


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=200)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1_000_000))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--fault-seconds", type=float, default=1.0, help="approximate duration of a fault")
    parser.add_argument("--only", default="", help="names of faults, separated by commas")
    parser.add_argument("--partitions", type=int, default=PARTITIONS.size, help="REDIS_PARTITIONS of the service")
    parser.add_argument("--source", type=Path, help="the `src` directory of another checkout, to test its service")
    return parser.parse_args()


async def run(args: argparse.Namespace) -> list[Round]:
    """Run all rounds and print each when it ends; after SIGTERM the current round is the last."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    names = args.only.split(",") if args.only else [fault.name for fault in FAULTS]
    blocks = runner.schedule(args.seed, args.rounds, [fault for fault in FAULTS if fault.name in names])
    scale, rounds = Scale(clients=args.clients, fault_seconds=args.fault_seconds), list[Round]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with contextlib.aclosing(runner.run(args.seed, blocks, scale, Path(folder), args.source)) as results:
            async for result in results:
                rounds.append(result)
                print(report.round_line(result), flush=True)
                for line in (*result.violations[:20], *(f"     {line}" for line in result.job_reports)):
                    print(f"     {line}", flush=True)
                if stop.is_set():
                    break
    return rounds


def main() -> None:
    """Run the rounds that the command line requests."""
    args = parse_arguments()
    if args.partitions != PARTITIONS.size:  # which the modules have read from the environment
        environment = {**os.environ, "TEST_PARTITIONS": str(args.partitions)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.chaos", *sys.argv[1:]], environment)
    scale = f"{args.clients} clients, {PARTITIONS.size} partitions"
    print(f"seed {args.seed}, {args.rounds} rounds, {scale}, on {find()}", flush=True)
    rounds = uvloop.run(run(args))
    print(report.table(rounds))
    sys.exit(1 if any(result.violations for result in rounds) else 0)


if __name__ == "__main__":
    main()
