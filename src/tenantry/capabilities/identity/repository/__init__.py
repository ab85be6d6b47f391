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
from tenantry.capabilities.identity.repository.certificates import (
    find_certificate,
    find_certificate_shown,
    insert_certificate,
    list_certificates,
    list_owners_of_certificate,
    revoke_certificate,
    touch_certificates,
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
from tenantry.capabilities.identity.repository.signing_keys import (
    find_signing_key,
    insert_signing_key,
    list_signing_keys,
    revoke_signing_key,
    touch_signing_keys,
)

__all__ = [
    "begin_grace",
    "count_active_users",
    "find_certificate",
    "find_certificate_shown",
    "find_key",
    "find_key_anywhere",
    "find_key_by_lookup",
    "find_service_account",
    "find_signing_key",
    "find_user",
    "insert_certificate",
    "insert_key",
    "insert_service_account",
    "insert_signing_key",
    "insert_user",
    "list_certificates",
    "list_keys",
    "list_owners_of_certificate",
    "list_service_accounts",
    "list_signing_keys",
    "list_users",
    "revoke_certificate",
    "revoke_key",
    "revoke_signing_key",
    "set_user_status",
    "touch_certificates",
    "touch_keys",
    "touch_signing_keys",
]
