"""Tables of identity.

The revision 0004 makes them, 0007 the delegated keys, 0009 what logins need, 0010 what programs prove themselves by.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tenantry.foundation.database.tables import CELL, MOMENT, belongs_to

users = Table(
    "users",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("issuer", "subject", "email", "name", "status")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "issuer", "subject"),
    belongs_to("tenants"),
)
service_accounts = Table(
    "service_accounts",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("service_account_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    UniqueConstraint("tenant_id", "workspace_id", "name"),
    belongs_to("workspaces", "workspace_id"),
)
api_keys = Table(
    "api_keys",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("key_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("principal_type", "principal_id", "name", "scheme", "status")),
    Column("lookup", LargeBinary, nullable=False),
    Column("verifier", LargeBinary, nullable=False),
    *(Column(name, ARRAY(Text), nullable=False) for name in ("roles", "permissions", "allowed_networks")),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    *(Column(name, MOMENT) for name in ("expires_at", "last_used_at", "revoked_at")),
    Column("delegated", Boolean, nullable=False, server_default=text("false")),
    Column("parent_id", Uuid),
    Column("rotated_from", Uuid),
    Column("grace_until", MOMENT),
    UniqueConstraint("tenant_id", "lookup"),
    UniqueConstraint("tenant_id", "rotated_from", name="api_keys_rotated_once"),
    belongs_to("api_keys", "key_id", named="parent_id", cascade=False),
)


def _of_an_account(table: str, identifier: str, *columns: Column[Any], unique: str) -> Table:
    """Describe what is registered to a service account to prove by that it is the one."""
    return Table(
        table,
        CELL,
        Column("tenant_id", Uuid, primary_key=True),
        Column(identifier, Uuid, primary_key=True),
        Column("workspace_id", Uuid, nullable=False),
        Column("service_account_id", Uuid, nullable=False),
        *columns,
        Column("status", Text, nullable=False),
        Column("created_at", MOMENT, nullable=False),
        Column("created_by", Text, nullable=False),
        *(Column(name, MOMENT) for name in ("last_used_at", "revoked_at")),
        UniqueConstraint("tenant_id", "workspace_id", unique),
        belongs_to("workspaces", "workspace_id"),
        belongs_to("service_accounts", "service_account_id"),
    )


client_certificates = _of_an_account(
    "client_certificates",
    "certificate_id",
    Column("fingerprint", LargeBinary, nullable=False),
    Column("subject", Text, nullable=False),
    Column("not_before", MOMENT, nullable=False),
    Column("not_after", MOMENT, nullable=False),
    unique="fingerprint",
)
signing_keys = _of_an_account(
    "signing_keys",
    "signing_key_id",
    Column("public_key", LargeBinary, nullable=False),
    Column("expires_at", MOMENT, nullable=False),
    unique="public_key",
)
identity_providers = Table(
    "identity_providers",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("provider_id", Uuid, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("slug", "name", "issuer", "client_id")),
    Column("sealed_secret", LargeBinary),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("rules", JSONB, nullable=False),
    Column("redirects", ARRAY(Text), nullable=False),
    Column("accepts_invitations", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    UniqueConstraint("tenant_id", "slug"),
    belongs_to("tenants"),
)
logins = Table(
    "logins",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("login_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("provider_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lookup", LargeBinary),
    Column("verifier", LargeBinary),
    *(Column(name, MOMENT, nullable=False) for name in ("auth_time", "created_at", "last_seen_at", "expires_at")),
    Column("revoked_at", MOMENT),
    Column("revoked_reason", Text),
    UniqueConstraint("tenant_id", "lookup"),
    Index("logins_user", "tenant_id", "user_id"),
    belongs_to("users", "user_id"),
)
login_flows = Table(
    "login_flows",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("flow_id", Uuid, primary_key=True),
    Column("provider_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("browser", LargeBinary, nullable=False),
    Column("redirect", Text, nullable=False),
    *(Column(name, Text) for name in ("challenge", "client_state", "ip")),
    *(Column(name, MOMENT, nullable=False) for name in ("created_at", "expires_at")),
    Column("used_at", MOMENT),
    Column("login_id", Uuid),
    Column("code", LargeBinary),
    Column("code_used_at", MOMENT),
    UniqueConstraint("tenant_id", "state"),
    UniqueConstraint("tenant_id", "code"),
    Index("login_flows_expiry", "tenant_id", "expires_at"),
    belongs_to("identity_providers", "provider_id"),
    belongs_to("logins", "login_id"),
)
refresh_tokens = Table(
    "refresh_tokens",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("token_id", Uuid, primary_key=True),
    Column("login_id", Uuid, nullable=False),
    Column("lookup", LargeBinary, nullable=False),
    Column("verifier", LargeBinary, nullable=False),
    *(Column(name, MOMENT, nullable=False) for name in ("created_at", "expires_at")),
    Column("used_at", MOMENT),
    UniqueConstraint("tenant_id", "lookup"),
    Index("refresh_tokens_login", "tenant_id", "login_id"),
    belongs_to("logins", "login_id"),
)
invitations = Table(
    "invitations",
    CELL,
    Column("tenant_id", Uuid, primary_key=True),
    Column("invitation_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    *(Column(name, Text, nullable=False) for name in ("email", "role", "status", "created_by")),
    *(Column(name, MOMENT, nullable=False) for name in ("created_at", "expires_at")),
    Column("accepted_at", MOMENT),
    Column("accepted_by", Uuid),
    Index("invitations_email", "tenant_id", "email"),
    belongs_to("tenants"),
    belongs_to("workspaces", "workspace_id"),
    belongs_to("users", "user_id", named="accepted_by"),
)
