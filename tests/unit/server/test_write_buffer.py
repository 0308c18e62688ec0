import asyncio
from typing import Any

from service.server.write_buffer import BufferedTransport, FlushScheduler


class RecordingTransport:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 5


async def test_writes_of_one_iteration_are_sent_together_at_its_end() -> None:
    inner: Any = RecordingTransport()
    transport = BufferedTransport(inner, FlushScheduler())
    transport.write(b"head")
    transport.write(b"body")
    assert (inner.sent, transport.get_write_buffer_size()) == ([], 5 + 8)
    await asyncio.sleep(0)
    assert (inner.sent, transport.get_write_buffer_size()) == ([b"headbody"], 5)


async def test_a_large_write_is_sent_immediately_and_in_order() -> None:
    inner: Any = RecordingTransport()
    transport = BufferedTransport(inner, FlushScheduler())
    transport.write(b"head")
    transport.write(b"x" * 70_000)
    transport.write(b"end")
    await asyncio.sleep(0)
    assert inner.sent == [b"head" + b"x" * 70_000, b"end"]


async def test_buffered_data_is_sent_before_the_close_and_nothing_after() -> None:
    inner: Any = RecordingTransport()
    transport = BufferedTransport(inner, FlushScheduler())
    transport.write(b"last")
    transport.close()
    assert (inner.sent, transport.is_closing()) == ([b"last"], True)
    transport.write(b"late")
    await asyncio.sleep(0)
    assert inner.sent == [b"last"]


async def test_all_transports_are_flushed_at_the_end_of_each_iteration() -> None:
    inners: list[Any] = [RecordingTransport(), RecordingTransport()]
    scheduler = FlushScheduler()
    one, other = (BufferedTransport(inner, scheduler) for inner in inners)
    one.write(b"1")
    other.write(b"2")
    await asyncio.sleep(0)
    assert [inner.sent for inner in inners] == [[b"1"], [b"2"]]
    other.write(b"3")
    await asyncio.sleep(0)
    assert [inner.sent for inner in inners] == [[b"1"], [b"2", b"3"]]


async def test_a_transport_that_fails_does_not_affect_others() -> None:
    class Broken(RecordingTransport):
        def write(self, data: bytes) -> None:
            raise TypeError

    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    inner, broken, scheduler = RecordingTransport(), Broken(), FlushScheduler()
    for one in (broken, inner):
        BufferedTransport(one, scheduler).write(b"1")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inner.sent == [b"1"]
    assert [type(error) for error in failed] == [TypeError]
