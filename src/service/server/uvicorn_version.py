"""The uvicorn versions whose private members this package uses."""

from typing import Final

import uvicorn

#: First supported release and first unsupported one. `HttpProtocol` overrides `_start_asgi_task` and sets fields of
#: `RequestResponseCycle`; `Server` uses `_captured_signals`. Check these in uvicorn's source before widening the range.
SUPPORTED: Final = ((0, 54), (0, 55))


def require_supported_uvicorn() -> None:
    """Raise `ImportError` unless the installed uvicorn is in the range `SUPPORTED`."""
    first, end = SUPPORTED
    major, minor = uvicorn.__version__.split(".")[:2]
    if not first <= (int(major), int(minor)) < end:
        supported = f"uvicorn>={first[0]}.{first[1]},<{end[0]}.{end[1]}"
        raise ImportError(f"uvicorn {uvicorn.__version__} is not supported. Install `{supported}`.")
