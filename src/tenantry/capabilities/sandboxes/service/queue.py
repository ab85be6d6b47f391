"""The cell's queue: the fair queue under the names of jobs, in two lanes.

A worker has slots for jobs and others for sandboxes, so those that only live take no job's place.
"""

from typing import Final

from tenantry.engines.fairqueue.names import Names
from tenantry.engines.fairqueue.queue import FairQueue

QUEUE: Final = FairQueue(Names("queue", ("tenant_id", "workspace_id", "principal_id"), "job_id"))
ESTIMATE_SECONDS: Final = 10.0
"""What a claim charges before the real time is known; corrected at the end."""
