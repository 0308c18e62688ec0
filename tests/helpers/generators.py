"""The tools that generate and compile clients from the API document."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

#: `javax.annotation`, which the JDK no longer has (Debian: libgeronimo-annotation-1.3-spec-java).
ANNOTATIONS: Final = Path("/usr/share/java/geronimo-annotation-1.3-spec.jar")


def generator() -> Path | None:
    """Return the jar of openapi-generator, which also has Jackson for its Java clients; `None` if not installed."""
    package = importlib.util.find_spec("openapi_generator_cli")  # the dependency group `clients`
    return (
        None if package is None or package.origin is None else Path(package.origin).with_name("openapi-generator.jar")
    )


def missing_tools() -> list[str]:
    """Return what the tests of clients in other languages need and cannot find."""
    missing = [tool for tool in ("java", "javac", "go", "curl", "jq") if shutil.which(tool) is None]
    if generator() is None:
        missing.append("openapi-generator-cli")
    if not ANNOTATIONS.is_file():
        missing.append(ANNOTATIONS.name)
    return missing
