"""Who is told what happened: channels that subscribe to topics, persons who are concerned, and one delivery for each.

Tables: `notification_channels`, `notification_deliveries`.

Invariants:
- A delivery is made once for an event and a channel or person, however often the event comes; it is sent at least once,
  each time under the same id.
- Nothing is on the network inside a transaction. A delivery is claimed by a lease and counted before it is sent, so one
  that kills its sender is not tried for ever.
- An address and its signing secret are sealed under the tenant's keyset, bound to their channel; no answer, log, error
  or audit event has them.
- What a tenant names is connected to at the address that was examined, and at no private one unless the installation
  says so.
"""
