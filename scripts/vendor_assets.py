"""Download the vendored files from their npm releases, check the hashes and write them into the package."""

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
    """An npm package, its hash, the files to take from it, and their folder."""

    package: str
    sha512: str
    files: tuple[str, ...]
    folder: Path


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
    """Update all vendored files."""
    for release in RELEASES:
        with tempfile.TemporaryDirectory() as download:
            subprocess.run(["npm", "pack", "--silent", release.package], cwd=download, check=True)
            [package] = Path(download).iterdir()
            unpack(package, release)


def unpack(package: Path, release: Release) -> None:
    """Write a package's files into their folder. Exits if the hash differs."""
    digest = base64.b64encode(sha512(package.read_bytes()).digest()).decode()
    if digest != release.sha512:
        sys.exit(f"{release.package} has the SHA-512 {digest}, expected {release.sha512}")
    with tarfile.open(package) as archive:
        for name in release.files:
            member = archive.extractfile(f"package/{name}")
            assert member
            (release.folder / Path(name).name).write_bytes(member.read())


if __name__ == "__main__":
    main()
