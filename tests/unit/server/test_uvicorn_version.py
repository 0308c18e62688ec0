import subprocess
import sys

import pytest
import uvicorn

from service.server.uvicorn_version import SUPPORTED, require_supported_uvicorn

FIRST, END = (".".join(map(str, version)) for version in SUPPORTED)


@pytest.mark.parametrize("version", [uvicorn.__version__, f"{FIRST}.0", f"{FIRST}.9", f"{FIRST}.0.dev1"])
def test_a_uvicorn_in_the_supported_range_is_accepted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(uvicorn, "__version__", version)
    require_supported_uvicorn()


@pytest.mark.parametrize("version", ["0.9.0", "0.53.2", f"{END}.0", f"{END}.0rc1", "0.100.0", "1.54.0"])
def test_any_other_uvicorn_is_rejected_with_the_range(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(uvicorn, "__version__", version)
    with pytest.raises(ImportError) as rejected:
        require_supported_uvicorn()
    assert str(rejected.value) == f"uvicorn {version} is not supported. Install `uvicorn>={FIRST},<{END}`."


def test_the_range_is_checked_when_the_protocol_is_imported() -> None:
    program = "import uvicorn; uvicorn.__version__ = '99.0.0'; import service.server.protocol"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "ImportError: uvicorn 99.0.0 is not supported." in done.stderr
