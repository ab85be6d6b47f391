"""SQL of users and service accounts."""

from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.identity.types import PrincipalStatus, ServiceAccount, User
from tenantry.foundation.database.session import TenantSession

if TYPE_CHECKING:
    import asyncpg

_USER: Final = "user_id, issuer, subject, email, name, status, version, created_at"
_ACCOUNT: Final = "service_account_id, workspace_id, name, status, version, created_at"


async def insert_user(session: TenantSession, user: User) -> bool:
    """Insert, or tell False when the issuer's subject is known."""
    row = await session.fetchrow(
        f"""insert into users (tenant_id, {_USER}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (tenant_id, issuer, subject) do nothing returning user_id""",
        session.scope.tenant_id,
        user.user_id,
        user.issuer,
        user.subject,
        user.email,
        user.name,
        user.status.value,
        user.version,
        user.created_at,
    )
    return row is not None


async def find_user_by_subject(session: TenantSession, *, issuer: str, subject: str) -> User | None:
    row = await session.fetchrow(
        f"select {_USER} from users where tenant_id = $1 and issuer = $2 and subject = $3",
        session.scope.tenant_id,
        issuer,
        subject,
    )
    return _user(row) if row else None


async def update_profile(session: TenantSession, user_id: UUID, *, email: str, name: str) -> None:
    """Keep what a provider says now, where it says something else than before."""
    await session.execute(
        """update users set email = $3, name = $4, version = version + 1
           where tenant_id = $1 and user_id = $2 and (email, name) is distinct from ($3, $4)""",
        session.scope.tenant_id,
        user_id,
        email,
        name,
    )


async def list_users(session: TenantSession, *, after: UUID | None, limit: int) -> list[User]:
    rows = await session.fetch(
        f"""select {_USER} from users where tenant_id = $1 and ($2::uuid is null or user_id > $2)
            order by user_id limit $3""",
        session.scope.tenant_id,
        after,
        limit,
    )
    return [_user(row) for row in rows]


async def count_active_users(session: TenantSession) -> int:
    count: int = await session.fetchval(
        "select count(*) from users where tenant_id = $1 and status = 'active'", session.scope.tenant_id
    )
    return count


async def find_user(session: TenantSession, user_id: UUID, *, lock: bool = False) -> User | None:
    row = await session.fetchrow(
        f"select {_USER} from users where tenant_id = $1 and user_id = $2 {'for update' if lock else ''}",
        session.scope.tenant_id,
        user_id,
    )
    return _user(row) if row else None


async def set_user_status(session: TenantSession, user_id: UUID, status: PrincipalStatus) -> None:
    await session.execute(
        "update users set status = $3, version = version + 1 where tenant_id = $1 and user_id = $2",
        session.scope.tenant_id,
        user_id,
        status.value,
    )


async def insert_service_account(session: TenantSession, account: ServiceAccount) -> bool:
    """Insert, or tell False when the name is taken in the workspace."""
    row = await session.fetchrow(
        f"""insert into service_accounts (tenant_id, {_ACCOUNT}) values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (tenant_id, workspace_id, name) do nothing returning service_account_id""",
        session.scope.tenant_id,
        account.service_account_id,
        account.workspace_id,
        account.name,
        account.status.value,
        account.version,
        account.created_at,
    )
    return row is not None


async def find_service_account(
    session: TenantSession, account_id: UUID, *, lock: bool = False
) -> ServiceAccount | None:
    row = await session.fetchrow(
        f"""select {_ACCOUNT} from service_accounts where tenant_id = $1 and service_account_id = $2
            {"for update" if lock else ""}""",
        session.scope.tenant_id,
        account_id,
    )
    return _account(row) if row else None


async def set_service_account_status(session: TenantSession, account_id: UUID, status: PrincipalStatus) -> None:
    await session.execute(
        """update service_accounts set status = $3, version = version + 1
           where tenant_id = $1 and service_account_id = $2""",
        session.scope.tenant_id,
        account_id,
        status.value,
    )


async def list_service_accounts(
    session: TenantSession, *, workspace_id: UUID, after: UUID | None, limit: int
) -> list[ServiceAccount]:
    rows = await session.fetch(
        f"""select {_ACCOUNT} from service_accounts
            where tenant_id = $1 and workspace_id = $2 and ($3::uuid is null or service_account_id > $3)
            order by service_account_id limit $4""",
        session.scope.tenant_id,
        workspace_id,
        after,
        limit,
    )
    return [_account(row) for row in rows]


def _user(row: "asyncpg.Record") -> User:
    values = dict(row)
    values["status"] = PrincipalStatus(values["status"])
    return User(**values)


def _account(row: "asyncpg.Record") -> ServiceAccount:
    values = dict(row)
    values["status"] = PrincipalStatus(values["status"])
    return ServiceAccount(**values)
