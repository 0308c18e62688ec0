"""What operators and their tools ask: does the process live, does it get its work done."""

from litestar import Controller, get
from litestar.di import NamedDependency

from service import __version__
from service.api.problems import documented
from service.api.schemas import Health
from service.store.manager import JobStateManager


class Operation(Controller):
    """Liveness and readiness."""

    path = "/"
    tags = ("operation",)

    @get("/health", operation_id="getHealth", summary="Say whether the process lives")
    async def health(self) -> Health:
        """Answer while the process lives, whatever Redis does."""
        return Health("ok", __version__)

    @get("/ready", operation_id="getReadiness", summary="Say whether jobs can be served", responses=documented())
    async def ready(self, job_manager: NamedDependency[JobStateManager]) -> Health:
        """Answer 200 while Redis takes changes, else 503 with a diagnosis."""
        await job_manager.ping()
        return Health("ready", __version__)
