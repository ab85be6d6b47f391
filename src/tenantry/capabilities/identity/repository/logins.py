"""SQL of logins, the flows that lead to them, and refresh tokens."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.identity.types import Login, LoginFlow, LoginKind, RefreshToken
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_LOGIN: Final = (
    "login_id, user_id, provider_id, kind, auth_time, created_at, last_seen_at, expires_at, revoked_at, revoked_reason"
)
_FLOW: Final = "flow_id, provider_id, kind, browser, redirect, challenge, client_state, ip, created_at, expires_at"
_TOKEN: Final = "token_id, login_id, created_at, expires_at, used_at"  # noqa: S105 - names of columns


async def count_open_flows(session: TenantSession, *, ip: str | None, now: datetime) -> tuple[int, int]:
    """Count flows that may still come back: the tenant's, and of those the ones begun at an address."""
    row = await session.fetchrow(
        """select count(*) as all_open, count(*) filter (where ip is not distinct from $2) as of_ip
           from login_flows where tenant_id = $1 and expires_at > $3 and used_at is null""",
        session.scope.tenant_id,
        ip,
        now,
    )
    return (row["all_open"], row["of_ip"]) if row else (0, 0)


async def insert_flow(session: TenantSession, flow: LoginFlow, *, state: bytes) -> None:
    await session.execute(
        f"""insert into login_flows (tenant_id, state, {_FLOW})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)""",
        session.scope.tenant_id,
        state,
        flow.flow_id,
        flow.provider_id,
        flow.kind.value,
        flow.browser,
        flow.redirect,
        flow.challenge,
        flow.client_state,
        flow.ip,
        flow.created_at,
        flow.expires_at,
    )


async def delete_old_flows(session: TenantSession, *, before: datetime) -> None:
    await session.execute(
        "delete from login_flows where tenant_id = $1 and expires_at < $2", session.scope.tenant_id, before
    )


async def use_flow(session: TenantSession, *, state: bytes, now: datetime) -> LoginFlow | None:
    """Use up the flow of a state; None for one that is unknown, used or over."""
    row = await session.fetchrow(
        f"""update login_flows set used_at = $3
            where tenant_id = $1 and state = $2 and used_at is null and expires_at > $3 returning {_FLOW}""",
        session.scope.tenant_id,
        state,
        now,
    )
    return _flow(row) if row else None


async def set_code(session: TenantSession, flow_id: UUID, *, code: bytes, login_id: UUID) -> None:
    await session.execute(
        "update login_flows set code = $3, login_id = $4 where tenant_id = $1 and flow_id = $2",
        session.scope.tenant_id,
        flow_id,
        code,
        login_id,
    )


async def find_login_of_code(session: TenantSession, *, code: bytes) -> UUID | None:
    found: UUID | None = await session.fetchval(
        "select login_id from login_flows where tenant_id = $1 and code = $2", session.scope.tenant_id, code
    )
    return found


async def use_code(
    session: TenantSession, *, code: bytes, now: datetime
) -> tuple[LoginFlow, UUID, datetime | None] | None:
    """Use up a one-time code: its flow, its login, and when it had been used before."""
    row = await session.fetchrow(
        f"""select {_FLOW}, login_id, code_used_at from login_flows where tenant_id = $1 and code = $2 for update""",
        session.scope.tenant_id,
        code,
    )
    if row is None:
        return None
    await session.execute(
        """update login_flows set code_used_at = $3
           where tenant_id = $1 and flow_id = $2 and code_used_at is null""",
        session.scope.tenant_id,
        row["flow_id"],
        now,
    )
    return _flow(row), row["login_id"], row["code_used_at"]


async def insert_login(
    session: TenantSession, login: Login, *, lookup: bytes | None = None, verifier: bytes | None = None
) -> None:
    await session.execute(
        f"""insert into logins (tenant_id, lookup, verifier, {_LOGIN})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        session.scope.tenant_id,
        lookup,
        verifier,
        login.login_id,
        login.user_id,
        login.provider_id,
        login.kind.value,
        login.auth_time,
        login.created_at,
        login.last_seen_at,
        login.expires_at,
        login.revoked_at,
        login.revoked_reason,
    )


async def find_login(session: TenantSession, login_id: UUID) -> Login | None:
    row = await session.fetchrow(
        f"select {_LOGIN} from logins where tenant_id = $1 and login_id = $2", session.scope.tenant_id, login_id
    )
    return _login(row) if row else None


async def lock_login(session: TenantSession, login_id: UUID) -> Login | None:
    row = await session.fetchrow(
        f"select {_LOGIN} from logins where tenant_id = $1 and login_id = $2 for update",
        session.scope.tenant_id,
        login_id,
    )
    return _login(row) if row else None


async def find_login_by_lookup(session: TenantSession, lookup: bytes) -> tuple[Login, bytes] | None:
    """Find a login of the console and the verifier of its cookie."""
    row = await session.fetchrow(
        f"select {_LOGIN}, verifier from logins where tenant_id = $1 and lookup = $2",
        session.scope.tenant_id,
        lookup,
    )
    return (_login(row), row["verifier"]) if row else None


async def list_logins(
    session: TenantSession, *, user_id: UUID, now: datetime, after: UUID | None, limit: int
) -> list[Login]:
    """List those that still hold."""
    rows = await session.fetch(
        f"""select {_LOGIN} from logins
            where tenant_id = $1 and user_id = $2 and revoked_at is null and expires_at > $3
              and ($4::uuid is null or login_id > $4)
            order by login_id limit $5""",
        session.scope.tenant_id,
        user_id,
        now,
        after,
        limit,
    )
    return [_login(row) for row in rows]


async def extend_login(session: TenantSession, login_id: UUID, *, now: datetime, expires_at: datetime) -> None:
    await session.execute(
        "update logins set last_seen_at = $3, expires_at = $4 where tenant_id = $1 and login_id = $2",
        session.scope.tenant_id,
        login_id,
        now,
        expires_at,
    )


async def revoke_logins(
    session: TenantSession,
    *,
    now: datetime,
    reason: str,
    login_id: UUID | None = None,
    user_id: UUID | None = None,
    provider_id: UUID | None = None,
) -> list[UUID]:
    """End one login, all of a user, or all that came by a provider: exactly one is named."""
    rows = await session.fetch(
        """update logins set revoked_at = $2, revoked_reason = $3
           where tenant_id = $1 and revoked_at is null and (login_id = $4 or user_id = $5 or provider_id = $6)
           returning login_id""",
        session.scope.tenant_id,
        now,
        reason,
        login_id,
        user_id,
        provider_id,
    )
    return [row["login_id"] for row in rows]


async def delete_old_logins(session: TenantSession, user_id: UUID, *, before: datetime) -> None:
    """Forget a user's logins that ended before; their tokens go with them, and the trail keeps that they were."""
    await session.execute(
        """delete from logins where tenant_id = $1 and user_id = $2 and least(expires_at, revoked_at) < $3""",
        session.scope.tenant_id,
        user_id,
        before,
    )


async def touch_logins(session: TenantSession, used: dict[UUID, datetime]) -> None:
    """Note when logins were last seen; never moves backwards."""
    await session.execute(
        """update logins l set last_seen_at = u.used_at
           from unnest($2::uuid[], $3::timestamptz[]) as u (login_id, used_at)
           where l.tenant_id = $1 and l.login_id = u.login_id and l.last_seen_at < u.used_at""",
        session.scope.tenant_id,
        list(used),
        list(used.values()),
    )


async def insert_refresh_token(session: TenantSession, token: RefreshToken, *, lookup: bytes, verifier: bytes) -> None:
    await session.execute(
        f"""insert into refresh_tokens (tenant_id, lookup, verifier, {_TOKEN})
            values ($1, $2, $3, $4, $5, $6, $7, $8)""",
        session.scope.tenant_id,
        lookup,
        verifier,
        token.token_id,
        token.login_id,
        token.created_at,
        token.expires_at,
        token.used_at,
    )


async def lock_refresh_token(session: TenantSession, lookup: bytes) -> tuple[RefreshToken, bytes] | None:
    """Find a token and its verifier; of two that bring the same one, the second waits for the first."""
    row = await session.fetchrow(
        f"select {_TOKEN}, verifier from refresh_tokens where tenant_id = $1 and lookup = $2 for update",
        session.scope.tenant_id,
        lookup,
    )
    if row is None:
        return None
    values = dict(row)
    verifier = values.pop("verifier")
    return RefreshToken(**values), verifier


async def use_refresh_token(session: TenantSession, token_id: UUID, *, now: datetime) -> None:
    await session.execute(
        "update refresh_tokens set used_at = $3 where tenant_id = $1 and token_id = $2",
        session.scope.tenant_id,
        token_id,
        now,
    )


async def delete_old_refresh_tokens(session: TenantSession, login_id: UUID, *, now: datetime) -> None:
    """Forget a login's tokens whose time is over: used again, they are refused as unknown."""
    await session.execute(
        "delete from refresh_tokens where tenant_id = $1 and login_id = $2 and expires_at < $3",
        session.scope.tenant_id,
        login_id,
        now,
    )


def _login(row: "asyncpg.Record") -> Login:
    values = dict(row)
    values.pop("verifier", None)
    values["kind"] = LoginKind(values["kind"])
    return Login(**values)


def _flow(row: "asyncpg.Record") -> LoginFlow:
    values = dict(row)
    for name in ("login_id", "code_used_at"):
        values.pop(name, None)
    values["kind"] = LoginKind(values["kind"])
    return LoginFlow(**values)
