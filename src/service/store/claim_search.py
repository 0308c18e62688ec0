"""Claims over several partitions: a look says where the first jobs are, and scripts claim them there."""

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import structlog

from service.domain import errors
from service.domain.jobs import Claim
from service.store import scripts
from service.store.claims import MAX_CLAIM_BYTES, Claimed, ClaimRequest, ClaimScript
from service.store.client import StoreClient
from service.store.gates import Counts, Gates
from service.store.look import Looker, Place, Share
from service.store.partition import Partition
from service.store.records import ceil_seconds

#: After so many looks a claim also tries heads that others have got.
MAX_SHARED_LOOKS: Final = 3
#: How a claim with a key is remembered in a partition, see `lua/claim.lua`.
_PLAN_NUMBER: Final = re.compile(rb"[^\s:]+:([0-9]+)")

_log = structlog.get_logger(__name__)


class Step(NamedTuple):
    """A partition, and how many jobs a claim wants from it."""

    partition: Partition
    jobs: int


class ClaimSearch:
    """Claims the first due jobs of all partitions, one script in each partition that has some of them."""

    def __init__(self, client: StoreClient, script: ClaimScript, looker: Looker) -> None:
        self._client = client
        self._script = script
        self._looker = looker
        self._gates = Gates(client)

    async def claim(self, request: ClaimRequest) -> tuple[list[Claim], float | None]:
        """Return claims in their order, or none with the seconds until the next delay is over (`None` without delays).

        A claim with a key first looks where it has looked before. Its plans have numbers: a plan claims at most once in
        each partition, and a new one is made only when the one before has given nothing in all of its partitions. So
        such a claim never holds jobs of two plans.

        Raises the errors of `ClaimScript.run`.
        """
        number, tried, refused = 0, set[Place](), None
        for looks in itertools.count(1):
            share = await self._looker.look(request.queues, request.max_jobs, tried, insists=looks > MAX_SHARED_LOOKS)
            number, plan, gates = await self._choose(request, share, number)
            if not plan and not share.has_others:
                break
            async with self._gates.hold(gates or ()) as counts:
                claims, refusal = await self._follow(plan, request, number, counts)
            if claims:
                return sorted(claims, key=lambda claim: claim.job.claim_order), None
            refused = refusal or refused
            if refusal and request.is_keyed and not await self._is_over(plan, request, number):
                break
            if gates is not None:
                tried.update(self._without_jobs(plan, request, gates, counts, share))
        if refused:
            raise refused
        return [], share.look.next_due

    async def _choose(
        self, request: ClaimRequest, share: Share, number: int
    ) -> tuple[int, Sequence[Step], set[str] | None]:
        """Return the number of the plan to follow, the plan, and the queues whose gates it needs.

        The queues are `None` for an earlier plan, which gives what it claimed, and perhaps jobs that need no gate.
        Raises `Draining`.
        """
        plan: Sequence[Step] = [] if share.look.drain else _plan(share, request.max_jobs)
        is_new = True
        if request.is_keyed:
            number, plan, is_new = await self._aim(request, number, plan)
        if share.look.drain and not plan:
            raise errors.Draining(ceil_seconds(share.look.drain))
        return number, plan, {head.queue for head in share.heads} & share.look.capped if is_new else None

    async def _follow(
        self, plan: Sequence[Step], request: ClaimRequest, number: int, counts: Counts
    ) -> tuple[list[Claim], errors.StoreCorrupt | None]:
        """Return what the steps of a plan give, and the error of one that met a key that is not ours."""
        claims: list[Claim] = []
        size, refusal = 0, None
        for partition, jobs in plan:
            step = Step(partition, min(jobs, request.max_jobs - len(claims)))
            try:
                got = await self._step(step, request, number, counts, size)
            except errors.StoreCorrupt as error:
                refusal = error
                continue
            except errors.JobStateError as error:
                if not claims:
                    raise
                # An error would hide the leases of these jobs from their worker.
                _log.warning("claim ended early", jobs=len(claims), error=str(error))
                counts.is_uncertain = True
                break
            claims += got.claims
            size += got.size
            if len(claims) >= request.max_jobs or size >= MAX_CLAIM_BYTES:
                break
        return claims, refusal or counts.refusal

    async def _is_over(self, plan: Sequence[Step], request: ClaimRequest, number: int) -> bool:
        """Return whether no script will claim for a plan any more: each has left the number of the plan."""
        names = (partition.claim(request.claim_id) for partition, _ in plan)
        held = await self._client.read(*(["GET", name] for name in names), isolate_errors=True)
        numbers = [isinstance(text, bytes) and _PLAN_NUMBER.match(text) for text in held]
        return all(match and int(match[1]) >= number for match in numbers)

    def _without_jobs(
        self, plan: Sequence[Step], request: ClaimRequest, gates: Collection[str], counts: Counts, share: Share
    ) -> Iterator[Place]:
        """Yield where a plan found nothing, and the places of queues whose gates could not be had."""
        known = [queue for queue in request.queues if queue not in share.look.capped or queue in counts.queues]
        yield from itertools.product((partition.number for partition, _ in plan), known)
        yield from itertools.product(range(len(self._all)), {*gates}.difference(counts.queues))

    @property
    def _all(self) -> Sequence[Partition]:
        return self._client.partitions

    async def _step(self, step: Step, request: ClaimRequest, number: int, counts: Counts, size: int) -> Claimed:
        facts = dict(await counts.facts(step.partition))
        if number:
            facts[":plan"] = number
        if size:
            facts[":strict"] = 1
        return await self._script.run(request, step.partition, step.jobs, MAX_CLAIM_BYTES - size, facts)

    async def _aim(
        self, request: ClaimRequest, given_up: int, plan: Sequence[Step]
    ) -> tuple[int, Sequence[Step], bool]:
        """Return number and steps of the newest plan of a claim with a key, and whether that is `plan`, made now.

        It is an earlier one if it has a higher number than `given_up`.
        """
        text = ",".join(f"{partition.number}:{jobs}" for partition, jobs in plan)
        home = self._client.partitions.home_of(request.claim_id)
        word, *reply = await self._client.run_script(
            scripts.AIM, home, [request.claim_id, given_up, text, request.record_ttl]
        )
        if word == "NONE":
            return given_up, plan, True
        steps = (step.split(":") for step in reply[1].decode().split(","))
        return int(reply[0]), [Step(self._all[int(number)], int(jobs)) for number, jobs in steps], word == "MADE"


def _plan(share: Share, count: int) -> list[Step]:
    """Return the partitions of the heads of a share, that with the first head first.

    Where fewer heads were seen than wanted, the partitions that may have more get the rest.
    """
    counts: dict[Partition, int] = {}
    for head in share.heads:
        counts[head.partition] = counts.get(head.partition, 0) + 1
    rest, deep = count - len(share.heads), {number for number, _ in share.look.deep}
    return [Step(one, found + rest * (one.number in deep)) for one, found in counts.items()]
