import asyncio

from service.server.request_scheduler import MAX_STARTS_PER_TICK, RequestScheduler

COUNT = 2 * MAX_STARTS_PER_TICK + 3


async def one_iteration() -> None:
    await asyncio.sleep(0)


async def test_a_few_start_in_each_iteration_in_order_of_arrival() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(COUNT):
        starting.schedule(begun.append, number)
    sizes = [len(begun)]
    while len(begun) < COUNT:
        await one_iteration()
        sizes.append(len(begun))
    assert sizes == [MAX_STARTS_PER_TICK, 2 * MAX_STARTS_PER_TICK, COUNT]
    assert begun == list(range(COUNT))
    await one_iteration()
    for number in range(COUNT, COUNT + MAX_STARTS_PER_TICK):
        starting.schedule(begun.append, number)
    assert len(begun) == COUNT + MAX_STARTS_PER_TICK


async def test_a_request_that_arrives_while_others_wait_is_queued_behind_them() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(2 * MAX_STARTS_PER_TICK):
        starting.schedule(begun.append, number)
    await one_iteration()
    starting.schedule(begun.append, 2 * MAX_STARTS_PER_TICK)
    assert len(begun) == 2 * MAX_STARTS_PER_TICK
    await one_iteration()
    assert begun == list(range(2 * MAX_STARTS_PER_TICK + 1))


async def test_a_single_request_starts_immediately_in_every_iteration() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(COUNT):
        starting.schedule(begun.append, number)
        assert begun[-1] == number
        await one_iteration()


async def test_a_request_whose_start_fails_does_not_affect_others() -> None:
    def fail() -> None:
        raise OSError

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    starting, begun = RequestScheduler(), list[int]()
    for number in range(MAX_STARTS_PER_TICK):
        starting.schedule(begun.append, number)
    starting.schedule(fail)
    starting.schedule(begun.append, MAX_STARTS_PER_TICK)
    for _ in range(3):
        await one_iteration()
    assert [type(one) for one in told] == [OSError]
    assert begun == list(range(MAX_STARTS_PER_TICK + 1))
