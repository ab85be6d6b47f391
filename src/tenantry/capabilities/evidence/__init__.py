"""Proof of what ran: for each piece of work a signed statement of what it was given, judged by, isolated by and left.

Tables: `evidence` (its state and dates), `evidence_envelopes` (what was signed, sealed; the application changes none),
`evidence_holds` (legal holds, which stay when they are released).

Invariants:
- Evidence begins with the work, in its transaction: what never ends leaves it `wip`, what was denied leaves it too.
- It is locked once, when the work has ended and a signed checkpoint covers its events; what is locked is never changed.
- In mode `metadata_only` a statement has digests, sizes and ids: no command, no name of a variable, no path.
- What does not hold any more is `tampered`, for good, and told; nothing is mended in silence.
- Nothing under an active hold, and nothing younger than the floor, is collected; what is leaves an event with its
  digest.
- What work is, the capability that runs it says (`ports.SubjectKind`); here is only how it is proved.
"""
