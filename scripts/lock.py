"""Write `requirements.lock`: what production installs, with hashes and without addresses; `--check` only compares."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = "# Production's dependencies with their hashes; made from pyproject.toml by `just lock`.\n"


def resolved(known: str) -> str:
    """Return the lock for pyproject.toml, keeping the versions that `known` has where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "requirements.lock"
        lock.write_text(known)
        compile_ = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
        ]
        where = ["--no-emit-index-url", "--no-emit-find-links", "--output-file", str(lock), "pyproject.toml"]
        subprocess.run([*compile_, *where], cwd=ROOT, check=True, env={**os.environ, "UV_NO_PROGRESS": "1"})
        return HEADER + lock.read_text()


def main() -> None:
    """Write or check."""
    known = LOCK.read_text() if LOCK.exists() else ""
    found = resolved(known.removeprefix(HEADER))
    if "--check" not in sys.argv:
        LOCK.write_text(found)
    elif found != known:
        sys.exit("requirements.lock is not what pyproject.toml asks for: run `just lock`.")
    if "://" in found:
        sys.exit("requirements.lock has an address in it.")


if __name__ == "__main__":
    main()
