"""Users and service accounts of one tenant."""

from collections.abc import Sequence
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity import repository
from tenantry.capabilities.identity.errors import (
    name_taken,
    service_account_not_found,
    user_exists,
    user_not_found,
    version_mismatch,
)
from tenantry.capabilities.identity.ports import Room
from tenantry.capabilities.identity.types import LOCAL_ISSUER, PrincipalStatus, ServiceAccount, User
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.capabilities.tenants.types import Measure
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id


class UserCount:
    """The `UsageSource` port of tenants for users; a disabled one takes no place."""

    async def measure(self, session: TenantSession) -> Sequence[Measure]:
        return [Measure("users", await repository.count_active_users(session))]


class AccountService:
    """Users and service accounts, in the session's tenant."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def create_user(self, *, email: str, name: str, subject: str | None = None) -> User:
        """Make a user whom no identity provider vouches for yet; raises Conflict `user_exists`."""
        user_id = new_id()
        user = User(
            user_id=user_id,
            issuer=LOCAL_ISSUER,
            subject=subject or format_id(Prefix.USER, user_id),
            email=email,
            name=name,
            status=PrincipalStatus.ACTIVE,
            version=1,
            created_at=self._clock.now(),
        )
        if not await repository.insert_user(self._session, user):
            raise user_exists()
        await self._audit.record(
            "user.created", resource_type="user", resource_id=format_id(Prefix.USER, user_id), details={}
        )
        return user

    async def list_users(self, *, after: UUID | None = None, limit: int = 50) -> list[User]:
        return await repository.list_users(self._session, after=after, limit=limit)

    async def find_user(self, user_id: UUID) -> User | None:
        return await repository.find_user(self._session, user_id)

    async def get_user(self, user_id: UUID) -> User:
        user = await repository.find_user(self._session, user_id)
        if user is None:
            raise user_not_found()
        return user

    async def set_user_status(
        self, user_id: UUID, status: PrincipalStatus, *, if_version: int | None, room: Room
    ) -> User:
        """Disable a user, with every credential, everywhere within a second; or enable it. Twice changes nothing.

        Raises NotFound, Precondition `version_mismatch`, Exhausted `quota_exceeded`.
        """
        user = await repository.find_user(self._session, user_id, lock=True)
        if user is None:
            raise user_not_found()
        if if_version is not None and if_version != user.version:
            raise version_mismatch(user.version)
        if user.status is status:
            return user
        if status is PrincipalStatus.ACTIVE:
            await room.take(repository.count_active_users)
        await repository.set_user_status(self._session, user_id, status)
        await announce_revocation(self._session)
        action = "user.disabled" if status is PrincipalStatus.DISABLED else "user.enabled"
        await self._audit.record(action, resource_type="user", resource_id=format_id(Prefix.USER, user_id))
        return await self.get_user(user_id)

    async def create_service_account(self, *, workspace_id: UUID, name: str) -> ServiceAccount:
        """Make a service account; raises Conflict `name_taken`."""
        account = ServiceAccount(
            service_account_id=new_id(),
            workspace_id=workspace_id,
            name=name,
            status=PrincipalStatus.ACTIVE,
            version=1,
            created_at=self._clock.now(),
        )
        if not await repository.insert_service_account(self._session, account):
            raise name_taken(name)
        await self._audit.record(
            "service_account.created",
            resource_type="service_account",
            resource_id=format_id(Prefix.SERVICE_ACCOUNT, account.service_account_id),
        )
        return account

    async def get_service_account(self, account_id: UUID, *, workspace_id: UUID | None = None) -> ServiceAccount:
        account = await repository.find_service_account(self._session, account_id)
        if account is None or workspace_id not in (None, account.workspace_id):
            raise service_account_not_found()
        return account

    async def set_service_account_status(
        self, account_id: UUID, status: PrincipalStatus, *, workspace_id: UUID, if_version: int | None
    ) -> ServiceAccount:
        """Disable one with all it proves itself by, everywhere within a second; or enable it. Twice changes nothing.

        Raises NotFound, Precondition `version_mismatch`.
        """
        account = await repository.find_service_account(self._session, account_id, lock=True)
        if account is None or account.workspace_id != workspace_id:
            raise service_account_not_found()
        if if_version is not None and if_version != account.version:
            raise version_mismatch(account.version)
        if account.status is status:
            return account
        await repository.set_service_account_status(self._session, account_id, status)
        await announce_revocation(self._session)
        verb = "disabled" if status is PrincipalStatus.DISABLED else "enabled"
        await self._audit.record(
            f"service_account.{verb}",
            resource_type="service_account",
            resource_id=format_id(Prefix.SERVICE_ACCOUNT, account_id),
        )
        return await self.get_service_account(account_id, workspace_id=workspace_id)

    async def list_service_accounts(
        self, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50
    ) -> list[ServiceAccount]:
        return await repository.list_service_accounts(
            self._session, workspace_id=workspace_id, after=after, limit=limit
        )
