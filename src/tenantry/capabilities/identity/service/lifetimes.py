"""How long credentials hold: nothing that a program proves itself by is for ever."""

from datetime import datetime, timedelta

from tenantry.capabilities.identity.errors import expiry_in_the_past, expiry_too_far
from tenantry.foundation.settings import IdentitySettings


def end_of_credential(wanted: datetime | None, *, now: datetime, settings: IdentitySettings) -> datetime:
    """Say when a credential made now ends: as wanted, else by default; raises `expiry_past`, `expiry_too_far`."""
    if wanted is None:
        return now + timedelta(days=settings.key_days)
    if wanted <= now:
        raise expiry_in_the_past()
    latest = now + timedelta(days=settings.max_key_days)
    if wanted > latest:
        raise expiry_too_far(latest, settings.max_key_days)
    return wanted
