"""Whether the process is shutting down, for everything that waits."""

from collections.abc import Callable


class Shutdown:
    """Whether the process is shutting down, and why. One object per process; the server begins it."""

    def __init__(self) -> None:
        #: Why the process shuts down, such as `SIGTERM`; `None` until it does.
        self.reason: str | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self.reason is not None

    def begin(self, reason: str) -> None:
        """Begin the shutdown and run the callbacks once, in order. Later calls do nothing."""
        if self.has_begun:
            return
        self.reason = reason
        for callback in self._callbacks:
            callback()

    def on_begin(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the shutdown begins; at once if it has begun."""
        if self.has_begun:
            callback()
        else:
            self._callbacks.append(callback)
