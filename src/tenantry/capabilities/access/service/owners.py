"""Whoever administers a tenant: there is always one left."""

from collections.abc import Callable
from typing import Final

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.types import Binding
from tenantry.capabilities.identity.service import AccountService
from tenantry.capabilities.identity.types import PrincipalStatus, PrincipalType
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, parse_id

OWNER_ROLE: Final = "tenant-admin"


def is_owners(binding: Binding) -> bool:
    """Say whether a binding makes somebody an administrator of the whole tenant."""
    return binding.workspace_id is None and binding.role == OWNER_ROLE


async def owner_left(session: TenantSession, accounts: AccountService, *, without: Callable[[Binding], bool]) -> bool:
    """Say whether an active user would still be one without those bindings; locks them all, so two do not both go."""
    for binding in await repository.lock_owner_bindings(session, OWNER_ROLE):
        if without(binding) or binding.principal_type != PrincipalType.USER:
            continue
        user = await accounts.find_user(parse_id(Prefix.USER, binding.principal_id))
        if user is not None and user.status is PrincipalStatus.ACTIVE:
            return True
    return False
