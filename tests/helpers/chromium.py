"""The browser of the tests."""

import shutil


def program() -> str | None:
    """Return the path of Chromium's headless shell, or else of Chromium: the shell takes a third of the CPU."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")
