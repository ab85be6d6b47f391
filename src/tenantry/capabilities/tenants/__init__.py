"""Tenants, their plans and placements, their workspaces and their keys.

Tables: in the cell `tenants`, `workspaces`, `keysets`; in the directory `tenants`, `workspaces` (placements: ids, slug,
region, isolation, status; no content).

Invariants:
- A tenant is pinned to one region; its workspaces take that region; neither is changed by an ordinary call.
- The directory says where, the cell says what. A tenant is in the directory as `pending` before its cell knows it, and
  `active` only after its rows have committed there; a crash in between is mended by repeating the call.
- `fence.tenant_state` and `tenants.status` change in one transaction: a suspended tenant is refused by the database,
  whatever a process has cached.
- A tenant's data keys are born with it and wrapped by the KMS; they exist in the clear in memory only.
- The installation itself is the tenant `platform` of each cell: its keys, its trail; it opens no other's content.
"""
