"""The face of identity: users, service accounts and the keys they hold."""

from tenantry.capabilities.identity.service.accounts import AccountService, UserCount
from tenantry.capabilities.identity.service.keys import IdentityService, KeyHasher, NewKey

__all__ = ["AccountService", "IdentityService", "KeyHasher", "NewKey", "UserCount"]
