"""The cell's queue: the fair queue under the names of jobs."""

from typing import Final

from tenantry.engines.fairqueue.names import Names
from tenantry.engines.fairqueue.queue import FairQueue

QUEUE: Final = FairQueue(Names("queue", ("tenant_id", "workspace_id", "principal_id"), "job_id"))
