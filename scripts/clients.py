"""Generate clients from the API document with more generators than CI runs, and compile them as far as tools are here.

The clients for Java, Go, Python and TypeScript (openapi-typescript, hey-api) run a job's whole life in the tests.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.integration.clients.conftest import DOCUMENT_30, jar

DOCUMENT = DOCUMENT_30.with_name("openapi.json")
#: Generators of openapi-generator, and their options.
GENERATORS: dict[str, Sequence[str]] = {
    "typescript-fetch": (),
    "python": ("--additional-properties=packageName=jobstate_client",),
    "kotlin": ("--additional-properties=serializationLibrary=kotlinx_serialization",),
    "rust": ("--additional-properties=packageName=jobstate-client",),
    "csharp": (),
}
NPM: dict[str, Sequence[str]] = {
    "orval": ("orval@7.13.2", "orval", "--client", "fetch", "--input", str(DOCUMENT), "--output", "client.ts"),
}


def run(*command: str | Path, cwd: Path) -> str | None:
    """Return the last lines that a failed command printed; `None` where it succeeded."""
    ran = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    return None if ran.returncode == 0 else (ran.stdout + ran.stderr)[-600:]


def type_check(folder: Path) -> str | None:
    """Compile a client for TypeScript."""
    sources = sorted(folder.rglob("*.ts"))
    options = (
        "--noEmit",
        "--skipLibCheck",
        "--target",
        "es2022",
        "--moduleResolution",
        "bundler",
        "--module",
        "esnext",
    )
    return run("npx", "--yes", "--package", "typescript@5.9.3", "tsc", *options, *sources, cwd=folder)


def byte_compile(folder: Path) -> str | None:
    """Compile a client for Python, which imports packages that are not installed here."""
    return run(sys.executable, "-m", "compileall", "-q", ".", cwd=folder)


COMPILERS: dict[str, tuple[str, Callable[[Path], str | None]]] = {
    "typescript-fetch": ("npx", type_check),
    "orval": ("npx", type_check),
    "python": (sys.executable, byte_compile),
    "datamodel-code-generator": (sys.executable, byte_compile),
}


def generate(name: str, folder: Path) -> str | None:
    """Run a generator."""
    if name in GENERATORS:
        options = ("-g", name, "-i", DOCUMENT_30, "-o", folder, *GENERATORS[name])
        return run("java", "-jar", jar(), "generate", *options, cwd=folder)
    if name in NPM:
        package, *command = NPM[name]
        return run("npx", "--yes", "--package", package, *command, cwd=folder)
    options = ("--input", DOCUMENT, "--input-file-type", "openapi", "--output", folder / "models.py")
    return run("uvx", "--from", "datamodel-code-generator==0.89.0", "datamodel-codegen", *options, cwd=folder)


def main() -> int:
    """Print a line per generator; return 1 where one fails."""
    failed = False
    for name in (*GENERATORS, *NPM, "datamodel-code-generator"):
        folder = Path(tempfile.mkdtemp(prefix=f"client-{name}-"))
        error = generate(name, folder)
        tool, compile_client = COMPILERS.get(name, ("", byte_compile))
        if error is not None:
            result = f"not generated: {error}"
        elif not tool or shutil.which(tool) is None:
            result = "generated; not compiled, because the compiler or the packages that it needs are not here"
        else:
            error = compile_client(folder)
            result = "generated and compiled" if error is None else f"generated; does not compile: {error}"
        failed |= error is not None
        print(f"{name}: {result}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
