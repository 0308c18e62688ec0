import asyncio

from service.server.request_scheduler import AT_ONCE, Starting

COUNT = 2 * AT_ONCE + 3


async def one_turn() -> None:
    await asyncio.sleep(0)


async def test_a_few_are_begun_in_each_turn_and_all_in_the_order_in_which_they_came() -> None:
    starting, begun = Starting(), list[int]()
    for number in range(COUNT):
        starting.begin(begun.append, number)
    sizes = [len(begun)]
    while len(begun) < COUNT:
        await one_turn()
        sizes.append(len(begun))
    assert sizes == [AT_ONCE, 2 * AT_ONCE, COUNT]
    assert begun == list(range(COUNT))
    await one_turn()
    for number in range(COUNT, COUNT + AT_ONCE):
        starting.begin(begun.append, number)
    assert len(begun) == COUNT + AT_ONCE


async def test_who_comes_while_others_wait_waits_behind_them() -> None:
    starting, begun = Starting(), list[int]()
    for number in range(2 * AT_ONCE):
        starting.begin(begun.append, number)
    await one_turn()
    starting.begin(begun.append, 2 * AT_ONCE)
    assert len(begun) == 2 * AT_ONCE
    await one_turn()
    assert begun == list(range(2 * AT_ONCE + 1))


async def test_who_comes_alone_is_begun_at_once_in_every_turn() -> None:
    starting, begun = Starting(), list[int]()
    for number in range(COUNT):
        starting.begin(begun.append, number)
        assert begun[-1] == number
        await one_turn()


async def test_one_that_cannot_be_begun_harms_no_other() -> None:
    def fail() -> None:
        raise OSError

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    starting, begun = Starting(), list[int]()
    for number in range(AT_ONCE):
        starting.begin(begun.append, number)
    starting.begin(fail)
    starting.begin(begun.append, AT_ONCE)
    for _ in range(3):
        await one_turn()
    assert [type(one) for one in told] == [OSError]
    assert begun == list(range(AT_ONCE + 1))
