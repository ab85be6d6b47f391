"""A fair queue in PostgreSQL: virtual time in a tree of three levels, leases with fencing, labels that never block.

Invariants:
- An entry is held by at most one attempt; a finish counts for the present attempt only.
- Whoever changes the tree holds the gate row, and never waits for another row: locked ones are skipped.
- Every charge is added to all nodes above the entry, in every lane; being idle, or waiting where nobody serves, earns
  no credit.
- Of a key with a cap no more entries are claimed at once, over all lanes; what is held costs other claims nothing.
- The enqueuing role writes wishes, shares and results, never state, place, attempt or charge.
"""

from tenantry.engines.fairqueue.grants import application_grants, dispatcher_grants
from tenantry.engines.fairqueue.names import Names, ddl
from tenantry.engines.fairqueue.queue import FairQueue
from tenantry.engines.fairqueue.types import Cancellation, Claim, Lapsed, Levels, Renewal, Standing, Ticket

__all__ = [
    "Cancellation",
    "Claim",
    "FairQueue",
    "Lapsed",
    "Levels",
    "Names",
    "Renewal",
    "Standing",
    "Ticket",
    "application_grants",
    "ddl",
    "dispatcher_grants",
]
