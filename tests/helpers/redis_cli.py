"""What docs/backup.md needs of `redis-cli`, which need not be there: `-s SOCKET COMMAND …`, a value a line."""

import socket
import sys
from typing import BinaryIO


def read(replies: BinaryIO) -> list[str]:
    """Return the values of a reply: a status, a text, or a list of them."""
    kind, rest = replies.read(1), replies.readline().decode().strip()
    if kind == b"$":
        return [replies.read(int(rest) + 2).decode()[:-2]]
    if kind == b"*":
        return [value for _ in range(int(rest)) for value in read(replies)]
    return [rest]


_, _, path, *command = sys.argv
with socket.socket(socket.AF_UNIX) as line:
    line.connect(path)
    line.sendall(" ".join(command).encode() + b"\r\n")
    print(*read(line.makefile("rb")), sep="\n")
