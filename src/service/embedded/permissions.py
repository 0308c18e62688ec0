"""File modes of a data directory: only the user of the service may enter it and read its files."""

import os
import pwd
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import structlog

from service.embedded.errors import EmbeddedServerError

#: Name patterns of the files that jobstate and its server create in a data directory.
OWN_NAMES: Final = ("appendonlydir", "dump.rdb", "owner.lock", "redis.sock", "server.*", "temp-*")
#: The mode bits of the group and of other users.
OTHER_USERS: Final = 0o077

_log = structlog.get_logger(__name__)


def restrict_to_owner(directory: Path) -> None:
    """Remove the access of other users to a data directory and to the server's files in it.

    Raises `EmbeddedServerError` if that fails, or if the directory contains other files as well.
    """
    try:
        refuse_replaceable(directory, "JOBSTATE_DATA")
        _check_owner(directory)
        before = directory.stat().st_mode
        if before & OTHER_USERS:
            _check_exclusive(directory)
        changed = sum([_restrict(path) for path in (directory, *_files(directory))])
    except OSError as error:
        reason = f"the mode of {error.filename or directory} cannot be set: {error.strerror}"
        raise EmbeddedServerError(f"`JOBSTATE_DATA`: {reason}. Choose another directory.") from error
    if changed:
        mode = f"{stat.S_IMODE(before):o}"
        _log.warning("data directory permissions restricted", path=str(directory), mode=mode, changed=changed)


def refuse_replaceable(directory: Path, variable: str) -> None:
    """Raise `EmbeddedServerError` if every user may replace this directory, which `variable` sets."""
    for parent in dict.fromkeys((*directory.parents, *directory.resolve().parents)):
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise EmbeddedServerError(
                f"`{variable}`: every user may write to {parent} and therefore replace {directory}. "
                f"Run `chmod o-w {parent}`, or choose a directory elsewhere."
            )


def _check_owner(path: Path) -> None:
    """Raise `EmbeddedServerError` if a file, or the link to it, belongs to another user.

    The link may also belong to root: with `DynamicUser=` systemd makes such a link to a `StateDirectory=`.
    """
    for owner, trusted in ((path.lstat().st_uid, {0, os.geteuid()}), (path.stat().st_uid, {os.geteuid()})):
        if owner not in trusted:
            raise EmbeddedServerError(
                f"`JOBSTATE_DATA`: {path} belongs to {_user(owner)}, and the service runs as {_user(os.geteuid())}. "
                f"Run the service as its owner, change the owner (`chown -R`), or choose another directory."
            )


def _check_exclusive(directory: Path) -> None:
    """Raise `EmbeddedServerError` if a directory is not for jobs only, so that its mode may be intended."""
    if directory.stat().st_mode & stat.S_ISVTX:
        reason = "is shared between users (it has the sticky bit)"
    elif other := next((name for name in sorted(os.listdir(directory)) if not _is_own(name)), None):
        reason = f"contains {other!r}, which is not a file of jobstate"
    else:
        return
    raise EmbeddedServerError(
        f"`JOBSTATE_DATA`: other users may enter {directory}, which {reason}. "
        f"Choose a directory for jobs only, or run `chmod 700 {directory}`."
    )


def _is_own(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in OWN_NAMES)


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files and directories of the server in a data directory."""
    for path in directory.iterdir():
        if _is_own(path.name):
            yield path
            if path.is_dir():
                yield from path.iterdir()


def _restrict(path: Path) -> bool:
    """Remove the access of other users to one file. Return whether they had any."""
    try:
        _check_owner(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & OTHER_USERS:
            return False
        path.chmod(mode & ~OTHER_USERS)
        if path.stat().st_mode & OTHER_USERS:
            raise EmbeddedServerError(
                f"`JOBSTATE_DATA`: the file system of {path} does not store file modes, so other users can read it. "
                "Choose a directory on another file system."
            )
    except FileNotFoundError:  # deleted meanwhile, or a broken link
        return False
    return True


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"user {number}"
