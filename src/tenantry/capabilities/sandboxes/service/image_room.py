"""The room that is left for the root of an image: its unpacking ends where that does."""

from typing import NoReturn
from uuid import UUID

from tenantry.capabilities.limits.errors import quota_contended
from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes.types import IMAGE
from tenantry.engines.jail.tree import Caps
from tenantry.foundation.ids import new_id


async def caps_within(quotas: QuotaService, *, workspace_id: UUID, freed: int = 0) -> Caps:
    """Give the caps of an image with the room that is left now, and `freed` bytes that it will give back."""
    room = await quotas.room(Quota.STORAGE, workspace_id=workspace_id)
    return Caps(stored_bytes=None if room is None else room + freed)


async def refuse_root(quotas: QuotaService, size: int, *, workspace_id: UUID) -> NoReturn:
    """Raise Exhausted `quota_exceeded` for a root that had no room; Unavailable if there is some by now: ask again."""
    await quotas.reserve(new_id(), {Quota.STORAGE: size}, kind=IMAGE, workspace_id=workspace_id)
    raise quota_contended()
