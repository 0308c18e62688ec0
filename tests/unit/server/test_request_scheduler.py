import asyncio

from service.server.request_scheduler import MAX_STARTS_PER_TICK, RequestScheduler

COUNT = 2 * MAX_STARTS_PER_TICK + 3


async def one_iteration() -> None:
    await asyncio.sleep(0)


async def test_a_few_start_in_each_iteration_in_order_of_arrival() -> None:
    scheduler, started = RequestScheduler(), list[int]()
    for number in range(COUNT):
        scheduler.schedule(started.append, number)
    sizes = [len(started)]
    while len(started) < COUNT:
        await one_iteration()
        sizes.append(len(started))
    assert sizes == [MAX_STARTS_PER_TICK, 2 * MAX_STARTS_PER_TICK, COUNT]
    assert started == list(range(COUNT))
    await one_iteration()
    for number in range(COUNT, COUNT + MAX_STARTS_PER_TICK):
        scheduler.schedule(started.append, number)
    assert len(started) == COUNT + MAX_STARTS_PER_TICK


async def test_a_request_that_arrives_while_others_wait_is_queued_behind_them() -> None:
    scheduler, started = RequestScheduler(), list[int]()
    for number in range(2 * MAX_STARTS_PER_TICK):
        scheduler.schedule(started.append, number)
    await one_iteration()
    scheduler.schedule(started.append, 2 * MAX_STARTS_PER_TICK)
    assert len(started) == 2 * MAX_STARTS_PER_TICK
    await one_iteration()
    assert started == list(range(2 * MAX_STARTS_PER_TICK + 1))


async def test_a_single_request_starts_immediately_in_every_iteration() -> None:
    scheduler, started = RequestScheduler(), list[int]()
    for number in range(COUNT):
        scheduler.schedule(started.append, number)
        assert started[-1] == number
        await one_iteration()


async def test_a_request_whose_start_fails_does_not_affect_others() -> None:
    def fail() -> None:
        raise OSError

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    scheduler, started = RequestScheduler(), list[int]()
    for number in range(MAX_STARTS_PER_TICK):
        scheduler.schedule(started.append, number)
    scheduler.schedule(fail)
    scheduler.schedule(started.append, MAX_STARTS_PER_TICK)
    for _ in range(3):
        await one_iteration()
    assert [type(one) for one in errors] == [OSError]
    assert started == list(range(MAX_STARTS_PER_TICK + 1))
