import asyncio

from service.server.request_scheduler import MAX_STARTS_PER_TICK, RequestScheduler

COUNT = 2 * MAX_STARTS_PER_TICK + 3


async def one_turn() -> None:
    await asyncio.sleep(0)


async def test_a_few_are_begun_in_each_turn_and_all_in_the_order_in_which_they_came() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(COUNT):
        starting.schedule(begun.append, number)
    sizes = [len(begun)]
    while len(begun) < COUNT:
        await one_turn()
        sizes.append(len(begun))
    assert sizes == [MAX_STARTS_PER_TICK, 2 * MAX_STARTS_PER_TICK, COUNT]
    assert begun == list(range(COUNT))
    await one_turn()
    for number in range(COUNT, COUNT + MAX_STARTS_PER_TICK):
        starting.schedule(begun.append, number)
    assert len(begun) == COUNT + MAX_STARTS_PER_TICK


async def test_who_comes_while_others_wait_waits_behind_them() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(2 * MAX_STARTS_PER_TICK):
        starting.schedule(begun.append, number)
    await one_turn()
    starting.schedule(begun.append, 2 * MAX_STARTS_PER_TICK)
    assert len(begun) == 2 * MAX_STARTS_PER_TICK
    await one_turn()
    assert begun == list(range(2 * MAX_STARTS_PER_TICK + 1))


async def test_who_comes_alone_is_begun_at_once_in_every_turn() -> None:
    starting, begun = RequestScheduler(), list[int]()
    for number in range(COUNT):
        starting.schedule(begun.append, number)
        assert begun[-1] == number
        await one_turn()


async def test_one_that_cannot_be_begun_harms_no_other() -> None:
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
        await one_turn()
    assert [type(one) for one in told] == [OSError]
    assert begun == list(range(MAX_STARTS_PER_TICK + 1))
