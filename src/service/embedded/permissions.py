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

#: What jobstate and its server keep in a data directory, as patterns of names.
OWN_NAMES: Final = ("appendonlydir", "dump.rdb", "owner.lock", "redis.sock", "server.*", "temp-*")
#: The mode bits that let other users read, write or enter.
OTHER_USERS: Final = 0o077

_log = structlog.get_logger(__name__)


def restrict_to_owner(directory: Path) -> None:
    """Remove the access of other users to a data directory and to the files of the server in it.

    Raises `EmbeddedServerError` where that fails, or where it would change more than a data directory.
    """
    try:
        refuse_replaceable(directory, "JOBSTATE_DATA")
        _check_owner(directory)
        before = directory.stat().st_mode
        if before & OTHER_USERS:
            _check_exclusive(directory)
        changed = sum([_restrict(path) for path in (directory, *_files(directory))])
    except OSError as error:
        path = error.filename or directory
        raise EmbeddedServerError(f"`JOBSTATE_DATA`: the mode of {path} cannot be set: {error.strerror}") from error
    if changed:
        _log.warning(
            "removed the access of other users to the data directory",
            path=str(directory),
            mode=f"{stat.S_IMODE(before):o}",
            changed=changed,
        )


def refuse_replaceable(directory: Path, variable: str) -> None:
    """Raise `EmbeddedServerError` where every user may replace this directory, which `variable` names."""
    for parent in dict.fromkeys((*directory.parents, *directory.resolve().parents)):
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise EmbeddedServerError(
                f"`{variable}`: every user may write to {parent}, and so replace {directory}. "
                f"Run `chmod o-w {parent}`, or choose a directory elsewhere."
            )


def _check_owner(path: Path) -> None:
    """Raise `EmbeddedServerError` where a file, or the link to it, belongs to another user."""
    for owner in (path.lstat().st_uid, path.stat().st_uid):
        if owner != os.geteuid():
            raise EmbeddedServerError(
                f"`JOBSTATE_DATA`: {path} belongs to {_user(owner)}, and the service runs as {_user(os.geteuid())}. "
                f"Run the service as its owner, change the owner (`chown -R`), or choose another directory."
            )


def _check_exclusive(directory: Path) -> None:
    """Raise `EmbeddedServerError` where a directory is for more than jobs: its mode may be needed as it is."""
    if directory.stat().st_mode & stat.S_ISVTX:
        found = "is shared between users (it has the sticky bit)"
    elif other := next((name for name in sorted(os.listdir(directory)) if not _is_own(name)), None):
        found = f"contains {other!r}, which is not a file of jobstate"
    else:
        return
    raise EmbeddedServerError(
        f"`JOBSTATE_DATA`: other users may enter {directory}, which {found}. "
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
    """Remove the access of other users to one file; return whether they had any."""
    try:
        _check_owner(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & OTHER_USERS:
            return False
        path.chmod(mode & ~OTHER_USERS)
        if path.stat().st_mode & OTHER_USERS:
            raise EmbeddedServerError(
                f"`JOBSTATE_DATA`: the file system of {path} does not keep file modes, so other users can read it. "
                f"Choose a directory on another file system."
            )
    except FileNotFoundError:  # removed meanwhile, or a link to nothing
        return False
    return True


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"user {number}"
