"""Write `requirements.lock`: production's dependencies with hashes and without index URLs; `--check` only compares."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = "# Production's dependencies with their hashes; made from pyproject.toml by `just lock`.\n"


def resolve(current: str) -> str:
    """Return the lock for pyproject.toml. Versions in `current` are kept where they still satisfy it."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "requirements.lock"
        lock.write_text(current)
        command = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
        ]
        options = [
            "--no-emit-index-url",
            "--no-emit-package",
            "jobstate-client",
            "--no-emit-find-links",
            "--output-file",
            str(lock),
            "pyproject.toml",
        ]
        subprocess.run([*command, *options], cwd=ROOT, check=True, env={**os.environ, "UV_NO_PROGRESS": "1"})
        return HEADER + lock.read_text()


def main() -> None:
    """Write or check the lock."""
    current = LOCK.read_text() if LOCK.exists() else ""
    resolved = resolve(current.removeprefix(HEADER))
    if "--check" not in sys.argv:
        LOCK.write_text(resolved)
    elif resolved != current:
        sys.exit("`requirements.lock` does not match pyproject.toml; run `just lock`.")
    if "://" in resolved:
        sys.exit("`requirements.lock` contains a URL; remove it from pyproject.toml.")


if __name__ == "__main__":
    main()
