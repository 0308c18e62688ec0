"""Runs nginx on loopback with a configuration from docs/deployment.md."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.helpers.polling import free_port, wait_until

DOCUMENT = ROOT / "docs" / "deployment.md"
#: The name of each configuration in the document, and the path prefix that it removes.
BLOCKS = {"nginx at the root": "", "nginx under a prefix": "/sub"}

#: The configuration around it: one process that writes to its own folder only.
_TEMPLATE = """\
daemon off;
master_process off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""


def binary() -> str | None:
    return shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


def documented_block(name: str) -> str:
    """Return a configuration from the document."""
    found = re.search(
        rf"<!-- {name}: begin -->\n```nginx\n(.*?)```\n<!-- {name}: end -->", DOCUMENT.read_text(), re.DOTALL
    )
    assert found, f"the document has no block {name!r}"
    return found[1]


@contextlib.contextmanager
def nginx(folder: Path, block: str, service_url: str) -> Iterator[str]:
    """Run nginx as a proxy of `service_url` with `block` from the document, and yield its URL."""
    port = free_port()
    assert block.count("listen 80;") == block.count("http://127.0.0.1:8000") == 1
    server = block.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("http://127.0.0.1:8000", service_url)
    configuration = folder / "nginx.conf"
    configuration.write_text(_TEMPLATE.format(folder=folder, server=server))
    command = [str(binary()), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), "nginx")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
