"""All SQL of identity."""

from tenantry.capabilities.identity.repository.accounts import (
    count_active_users,
    find_service_account,
    find_user,
    insert_service_account,
    insert_user,
    list_service_accounts,
    list_users,
    set_user_status,
)
from tenantry.capabilities.identity.repository.keys import (
    begin_grace,
    find_key,
    find_key_anywhere,
    find_key_by_lookup,
    insert_key,
    list_keys,
    revoke_key,
    touch_keys,
)

__all__ = [
    "begin_grace",
    "count_active_users",
    "find_key",
    "find_key_anywhere",
    "find_key_by_lookup",
    "find_service_account",
    "find_user",
    "insert_key",
    "insert_service_account",
    "insert_user",
    "list_keys",
    "list_service_accounts",
    "list_users",
    "revoke_key",
    "set_user_status",
    "touch_keys",
]
