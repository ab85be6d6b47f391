"""The face of identity: users and service accounts, keys, providers, logins and their tokens, invitations."""

from tenantry.capabilities.identity.service.access_tokens import AccessToken, AccessTokens, looks_like_token
from tenantry.capabilities.identity.service.accounts import AccountService, UserCount
from tenantry.capabilities.identity.service.arrivals import FlowEnd
from tenantry.capabilities.identity.service.exchange import TokenDesk
from tenantry.capabilities.identity.service.flows import LoginFlows, Return, Wish
from tenantry.capabilities.identity.service.hashing import KeyHasher
from tenantry.capabilities.identity.service.invitations import InvitationService
from tenantry.capabilities.identity.service.keys import IdentityService, NewKey
from tenantry.capabilities.identity.service.logins import LoginService
from tenantry.capabilities.identity.service.providers import (
    NewProvider,
    ProviderService,
    checked_issuer,
)

__all__ = [
    "AccessToken",
    "AccessTokens",
    "AccountService",
    "FlowEnd",
    "IdentityService",
    "InvitationService",
    "KeyHasher",
    "LoginFlows",
    "LoginService",
    "NewKey",
    "NewProvider",
    "ProviderService",
    "Return",
    "TokenDesk",
    "UserCount",
    "Wish",
    "checked_issuer",
    "looks_like_token",
]
