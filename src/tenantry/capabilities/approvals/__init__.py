"""Decisions that people owe on exactly what will be done: quorum, separation of duties, expiry, escalation, reasons.

Tables: `approvals`, `approval_decisions`.

Invariants:
- An approval is bound to the SHA-256 of the canonical form (RFC 8785) of what will be done, and is used once. What
  differs by a byte needs another; the same, asked for again, keeps the approval it has.
- One function decides for every interface: `ApprovalService.decide`, under the lock of the row.
- Nobody decides on what they asked for or gain by, whichever credential they hold; each principal has one vote.
- A single rejection rejects. After `expires_at` nothing is decided and nothing is used, by the clock, swept or not.
- Comments are content: sealed under a key of the approval, and kept as long as its workspace keeps content.
"""
