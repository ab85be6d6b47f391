"""Who among administrators somebody is."""

from tenantry.capabilities.access.types import Caller
from tenantry.foundation.scope import SYSTEM


def administrator(caller: Caller) -> str:
    """Tell administrators apart: by who they are; the installation's own keys stand for one each."""
    return caller.actor.id if caller.principal == SYSTEM.id else caller.principal
