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
from tests.chaos.environment import start_one_redis
from tests.chaos.failovers import FAULTS_OF
from tests.chaos.nemesis import Fault
from tests.chaos.replicated import REPLICAS, replicated
from tests.chaos.runner import Round, Scale
from tests.helpers import network
from tests.helpers.partitions import PARTITIONS
from tests.helpers.redis_servers import server_program


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=200)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1_000_000))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--fault-seconds", type=float, default=1.0, help="approximate duration of a fault")
    parser.add_argument("--only", default="", help="names of faults, separated by commas")
    parser.add_argument("--backend", choices=FAULTS_OF, default="standalone", help="how Redis runs")
    parser.add_argument("--wait-replicas", type=int, help="REDIS_WAIT_REPLICAS of the service; by default all replicas")
    parser.add_argument("--partitions", type=int, help="REDIS_PARTITIONS of the service; 16 on a cluster by default")
    parser.add_argument("--source", type=Path, help="the `src` directory of another checkout, to test its service")
    parser.add_argument(
        "--embedded", action="store_true", help="run masters and replicas of the embedded server's binary"
    )
    args = parser.parse_args()
    if args.embedded:
        os.environ["TEST_REDIS_SERVER"] = str(find().path)
    if args.partitions is None:
        args.partitions = 16 if args.backend == "cluster" else PARTITIONS.size
    if args.wait_replicas is None:
        args.wait_replicas = REPLICAS.get(args.backend, 0)
    return args


async def run(args: argparse.Namespace) -> list[Round]:
    """Run all rounds and print each when it ends; after SIGTERM the current round is the last."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    blocks = runner.schedule(args.seed, args.rounds, args.faults)
    is_replicated = args.backend in REPLICAS
    start = replicated(args.backend, args.wait_replicas) if is_replicated else start_one_redis
    scale, rounds = (
        Scale(clients=args.clients, fault_seconds=args.fault_seconds),
        list[Round](),
    )
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with contextlib.aclosing(
            runner.run(args.seed, blocks, scale, Path(folder), args.source, start=start)
        ) as results:
            async for result in results:
                rounds.append(result)
                print(report.round_line(result), flush=True)
                for line in (*result.violations[:20], *(f"     {line}" for line in result.job_reports)):
                    print(f"     {line}", flush=True)
                if stop.is_set():
                    break
    return rounds


def choose_faults(args: argparse.Namespace) -> list[Fault]:
    """Return the faults of the command line that are possible on this machine, and print why others are left out."""
    faults = FAULTS_OF[args.backend]
    names = args.only.split(",") if args.only else [fault.name for fault in faults]
    chosen = [fault for fault in faults if fault.name in names]
    for fault in chosen:
        if (reason := fault.why_not()) is not None:
            print(f"left out: {fault.name}, because {reason}", flush=True)
    possible = [fault for fault in chosen if fault.why_not() is None]
    if not possible:
        sys.exit("no fault is left")
    return possible


def main() -> None:
    """Run the rounds that the command line requests."""
    args = parse_arguments()
    if args.partitions != PARTITIONS.size:  # which the modules have read from the environment
        environment = {**os.environ, "TEST_PARTITIONS": str(args.partitions)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.chaos", *sys.argv[1:]], environment)
    args.faults = choose_faults(args)
    scale = f"{args.clients} clients, {PARTITIONS.size} partitions"
    servers = f"{args.backend} of {server_program()}, {args.wait_replicas} replicas acknowledge"
    on = servers if args.backend in REPLICAS else str(find())
    print(f"seed {args.seed}, {args.rounds} rounds, {scale}, on {on}", flush=True)
    needs_network = any(fault.why_not is network.why_not for fault in args.faults)
    with network.own() if needs_network else contextlib.nullcontext():
        rounds = uvloop.run(run(args))
    print(report.table(rounds))
    sys.exit(1 if any(result.violations for result in rounds) else 0)


if __name__ == "__main__":
    main()
