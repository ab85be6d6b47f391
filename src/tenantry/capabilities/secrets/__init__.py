"""Named values of a workspace that can be written and given to work, and never be read.

Tables: `secrets`, `secret_versions`.

Invariants:
- No answer, event, log or error has a value; only an attempt at a job opens one, at its start.
- A value is sealed under the tenant's keyset for its tenant, workspace, secret and version: moved, it does not open.
- Each write is a version of its own. The newest are kept, of older ones the row alone.
- What is given names secret and version: one that is removed and made anew under the same name is another.
"""
