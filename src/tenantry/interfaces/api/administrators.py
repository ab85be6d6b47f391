"""Who among administrators somebody is."""

from tenantry.capabilities.access.types import Caller
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM


def administrator(caller: Caller) -> str:
    """Tell administrators apart: by who they are; the installation's own keys stand for one each."""
    return format_id(Prefix.KEY, caller.key_id) if caller.principal == SYSTEM.id else caller.principal
