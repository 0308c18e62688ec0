"""Put the files of Swagger UI into the package again: out of the npm package of one release, its hash checked."""

import base64
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha512
from pathlib import Path

RELEASE = "5.35.0"
SHA512 = "U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="
FILES = ("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE", "NOTICE")
ROOM = Path(__file__).resolve().parent.parent / "src" / "service" / "api" / "page" / "swagger_ui"


def main() -> None:
    """Fetch, check, unpack."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"swagger-ui-dist@{RELEASE}"], cwd=folder, check=True)
        [package] = Path(folder).iterdir()
        found = base64.b64encode(sha512(package.read_bytes()).digest()).decode()
        if found != SHA512:
            sys.exit(f"swagger-ui-dist {RELEASE} has the SHA-512 {found}, not the one that is known.")
        with tarfile.open(package) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/{name}")
                assert member
                (ROOM / name).write_bytes(member.read())


if __name__ == "__main__":
    main()
