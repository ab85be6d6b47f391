"""Who can be bound, or be in a group: users, and service accounts of that place."""

from uuid import UUID

from tenantry.capabilities.access.errors import principal_not_found
from tenantry.capabilities.identity.service import AccountService
from tenantry.capabilities.identity.types import PrincipalType
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, parse_id


async def principal_type_of(accounts: AccountService, principal: str, *, workspace_id: UUID | None) -> str:
    """Tell the type of a principal that exists there; raises NotFound for anything else, malformed names too."""
    try:
        if principal.startswith(f"{Prefix.USER}_"):
            if await accounts.find_user(parse_id(Prefix.USER, principal)) is None:
                raise principal_not_found()
            return PrincipalType.USER.value
        account_id = parse_id(Prefix.SERVICE_ACCOUNT, principal)
    except Invalid:
        raise principal_not_found() from None
    await accounts.get_service_account(account_id, workspace_id=workspace_id)
    return PrincipalType.SERVICE_ACCOUNT.value
