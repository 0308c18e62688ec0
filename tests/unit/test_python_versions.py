import re
import tomllib

from tests.helpers.paths import ROOT


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_image_and_documents_name_the_python_versions_of_the_package() -> None:
    requires = tomllib.loads(text_of("pyproject.toml"))["project"]["requires-python"]
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", requires)
    assert bounds is not None
    oldest, newest = f"3.{bounds[1]}", f"3.{int(bounds[2]) - 1}"

    image = f"python:{newest}-slim-bookworm"
    assert f"ARG PYTHON_IMAGE={image}\n" in text_of("Dockerfile")
    for file in ("compose.yaml", "compose.cluster.yaml"):
        assert f"${{PYTHON_IMAGE:-{image}}}" in text_of(file)
    assert f"| `PYTHON_IMAGE` | `{image}` |" in text_of("docs/deployment.md")
    for document in ("README.md", "docs/deployment.md"):
        assert f"{oldest} to {newest}" in text_of(document)
