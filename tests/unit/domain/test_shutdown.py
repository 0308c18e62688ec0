from service.domain.shutdown import Shutdown


def test_a_shutdown_keeps_its_first_reason() -> None:
    shutdown = Shutdown()
    assert (shutdown.has_begun, shutdown.reason) == (False, None)
    shutdown.begin("SIGTERM")
    shutdown.begin("SIGINT")
    assert (shutdown.has_begun, shutdown.reason) == (True, "SIGTERM")


def test_callbacks_run_once_in_order_when_the_shutdown_begins() -> None:
    shutdown, calls = Shutdown(), list[str]()
    shutdown.on_begin(lambda: calls.append("first"))
    shutdown.on_begin(lambda: calls.append("second"))
    assert calls == []
    shutdown.begin("SIGTERM")
    shutdown.begin("SIGTERM")
    assert calls == ["first", "second"]


def test_a_callback_runs_at_once_after_the_shutdown_has_begun() -> None:
    shutdown, calls = Shutdown(), list[str]()
    shutdown.begin("SIGTERM")
    shutdown.on_begin(lambda: calls.append("late"))
    assert calls == ["late"]
