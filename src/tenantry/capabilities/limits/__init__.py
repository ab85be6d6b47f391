"""How much of what one tenant, workspace or principal may do, and that nobody gets more.

Tables: `limit_overrides`, `quota_counters`, `reservations`.

Invariants:
- A value is the lowest of all layers, platform, plan, tenant and workspace: a lower layer only narrows.
- A request is held against all its rates in one call, which charges all of them or none.
- Over any span, and over all processes, what is admitted never passes rate · span + burst.
- What work holds of quotas commits with the work, all of it or none; a counter is the sum of its reservations.
- What cannot be counted, because the store is away, is refused unless the installation lets it pass by its class.
"""
