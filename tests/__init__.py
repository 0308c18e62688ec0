"""The tests. They and the processes that they start keep their bytecode, whatever `PYTHONDONTWRITEBYTECODE` says."""

import os
import sys
from pathlib import Path

if sys.dont_write_bytecode:  # else each start of the service would compile it and its libraries again
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
