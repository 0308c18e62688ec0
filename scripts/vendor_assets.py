"""Put the files of others into the package again: out of the npm package of one release each, its hash checked."""

import base64
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha512
from pathlib import Path
from typing import NamedTuple

WEB = Path(__file__).resolve().parent.parent / "src" / "service" / "web"


class Release(NamedTuple):
    """What is taken from where, and put where."""

    package: str
    sha512: str
    files: tuple[str, ...]
    room: Path


RELEASES = (
    Release(
        "swagger-ui-dist@5.35.0",
        "U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        ("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE", "NOTICE"),
        WEB / "api_docs" / "swagger_ui",
    ),
    Release(
        "uplot@1.6.32",
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
        WEB / "dashboard" / "uplot",
    ),
)


def main() -> None:
    """Fetch, check, unpack."""
    for release in RELEASES:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", release.package], cwd=folder, check=True)
            [package] = Path(folder).iterdir()
            unpack(package, release)


def unpack(package: Path, release: Release) -> None:
    """Put the files of a package where they belong, if it is the one that is known."""
    found = base64.b64encode(sha512(package.read_bytes()).digest()).decode()
    if found != release.sha512:
        sys.exit(f"{release.package} has the SHA-512 {found}, not the one that is known.")
    with tarfile.open(package) as archive:
        for name in release.files:
            member = archive.extractfile(f"package/{name}")
            assert member
            (release.room / Path(name).name).write_bytes(member.read())


if __name__ == "__main__":
    main()
