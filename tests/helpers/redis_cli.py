"""A minimal `redis-cli` for the commands in docs/backup.md: `-s SOCKET COMMAND …` prints one value a line."""

import socket
import sys
from typing import BinaryIO


def read(replies: BinaryIO) -> list[str]:
    """Return the values of a reply: a status, a bulk string, or an array of them."""
    kind, rest = replies.read(1), replies.readline().decode().strip()
    if kind == b"$":
        return [replies.read(int(rest) + 2).decode()[:-2]]
    if kind == b"*":
        return [value for _ in range(int(rest)) for value in read(replies)]
    return [rest]


_, _, path, *command = sys.argv
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    connection.sendall(" ".join(command).encode() + b"\r\n")
    print(*read(connection.makefile("rb")), sep="\n")
