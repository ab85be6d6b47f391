"""Where what becomes due by itself stands, for the round that goes over all tenants and sees ids and dates only."""

from typing import Final

APPROVALS_DUE: Final = ("approvals", "approval_id")
"""Table and id; `due_at` beside it."""
