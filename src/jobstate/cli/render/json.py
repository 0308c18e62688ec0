"""Jobs as JSON, byte for byte as the service sent it."""

from jobstate._sse import Event
from jobstate.cli.follow import Change
from jobstate.cli.output import print_json
from jobstate.cli.render.messages import ConnectionMessages


class JsonLines(ConnectionMessages):
    """Writes each event as JSON, and finally the complete record."""

    def changed(self, change: Change) -> None:
        """Write a change."""
        self._write("changed", change.json)

    def removed(self, event: Event) -> None:
        """Write the event `deleted` or `expired`."""
        self._write(event.name, event.data)

    def finished(self, change: Change) -> None:
        """Write the complete record as event `ended`."""
        self._write("ended", change.json)

    def _write(self, event: str, data: bytes) -> None:
        print_json(b'{"event":"%b","data":%b}' % (event.encode(), data))
