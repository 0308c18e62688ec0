"""The long form: many rounds of faults under load, a line for each, figures at the end; 1 if a promise was broken."""

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from service.embedded.binary import find
from tests.chaos import report
from tests.chaos.nemesis import FAULTS
from tests.chaos.runner import Round, Scale, play, schedule


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=200)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1_000_000))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--hold", type=float, default=1.0, help="seconds of a fault, about")
    parser.add_argument("--only", default="", help="names of faults, separated by commas")
    parser.add_argument("--source", type=Path, help="the src of another checkout, to try its service")
    return parser.parse_args()


async def run(asked: argparse.Namespace) -> list[Round]:
    """Play, and tell of each round as it ends; SIGTERM makes the round that is played the last."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    names = asked.only.split(",") if asked.only else [fault.name for fault in FAULTS]
    blocks = schedule(asked.seed, asked.rounds, [fault for fault in FAULTS if fault.name in names])
    scale, rounds = Scale(clients=asked.clients, hold=asked.hold), list[Round]()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with contextlib.aclosing(play(asked.seed, blocks, scale, Path(folder), asked.source)) as played:
            async for one in played:
                rounds.append(one)
                print(report.line(one), flush=True)
                for said in (*one.violations[:20], *(f"     {line}" for line in one.stories)):
                    print(f"     {said}", flush=True)
                if stop.is_set():
                    break
    return rounds


def main() -> None:
    """Run as asked for."""
    asked = arguments()
    print(f"seed {asked.seed}, {asked.rounds} rounds, {asked.clients} clients, on {find()}", flush=True)
    rounds = uvloop.run(run(asked))
    print(report.table(rounds))
    sys.exit(1 if any(one.violations for one in rounds) else 0)


if __name__ == "__main__":
    main()
