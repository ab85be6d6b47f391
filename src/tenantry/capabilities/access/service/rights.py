"""What a principal, and what a key, may do: everything that gives or takes permissions, brought together."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.service.decide import RoleBook, compile_access
from tenantry.capabilities.access.service.grant_sources import grant_sources
from tenantry.capabilities.access.types import BUILT_IN_ROLES, Access, Permission, Source
from tenantry.capabilities.identity.types import ApiKey, KeyStatus, PrincipalType
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id

_LONGEST_CHAIN: Final = 8
"""Keys made with keys: a longer chain opens nothing."""

FindKey = Callable[[UUID], Awaitable[ApiKey | None]]


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do, and until when at the latest that holds. `fault` names what makes it nothing."""

    access: Access
    until: datetime | None = None
    fault: str | None = None


async def role_book(session: TenantSession) -> RoleBook:
    """Read the roles of the session's tenant, of whatever place, in a session not narrowed to a workspace.

    One that holds a permission which is no longer known gives the rest of it.
    """
    own = {role.slug: _known(role.permissions) for role in await repository.list_all_roles(session)}
    return {**own, **BUILT_IN_ROLES}


async def bindable_roles(session: TenantSession, workspace_id: UUID | None) -> RoleBook:
    """Read those that can be bound in a place: the whole tenant's and its own."""
    own = await repository.list_roles(session, workspace_id=workspace_id)
    return {**{role.slug: _known(role.permissions) for role in own}, **BUILT_IN_ROLES}


def _known(permissions: Iterable[str]) -> frozenset[Permission]:
    return frozenset(Permission(name) for name in permissions if name in Permission.__members__.values())


async def sources_of(session: TenantSession, principal_id: str, book: RoleBook, *, now: datetime) -> list[Source]:
    """List what gives or takes permissions: bindings of the principal and its groups, its grants of this moment.

    The session must not be narrowed to a workspace: it would see none of the whole tenant's.
    """
    groups = await repository.list_groups_of(session, principal_id)
    names = {principal_id: "", **{format_id(Prefix.GROUP, group): " of a group" for group in groups}}
    sources = []
    for binding in await repository.list_bindings_of(session, list(names)):
        name = format_id(Prefix.BINDING, binding.binding_id)
        sources.append(
            Source(
                binding.workspace_id,
                f"role {binding.role} by {name}{names[binding.principal_id]}",
                book.get(binding.role, frozenset()),
                effect=binding.effect,
                condition=binding.condition or None,
                source=name,
            )
        )
    return [*sources, *await grant_sources(session, principal_id, book, now=now)]


def in_workspace(sources: Iterable[Source], workspace_id: UUID | None) -> list[Source]:
    """Narrow to one workspace: what holds in the whole tenant holds there, what is elsewhere is left out."""
    if workspace_id is None:
        return list(sources)
    return [replace(source, place=workspace_id) for source in sources if source.place in (None, workspace_id)]


class RightsReader:
    """Reads rights in one transaction of one tenant."""

    def __init__(self, *, session: TenantSession, clock: Clock, find_key: FindKey) -> None:
        self._session = session
        self._clock = clock
        self._find_key = find_key
        self._book: RoleBook | None = None

    async def book(self) -> RoleBook:
        if self._book is None:
            self._book = await role_book(self._session)
        return self._book

    async def of_principal(
        self, principal_id: str, *, workspace_id: UUID | None = None, besides: Iterable[Source] = ()
    ) -> Rights:
        """Tell what a principal may do, or of it what it may in one workspace."""
        book, now = await self.book(), self._clock.now()
        sources = [*await sources_of(self._session, principal_id, book, now=now), *besides]
        found = in_workspace(sources, workspace_id)
        return Rights(compile_access(found), _soonest(source.until for source in found))

    async def of_key(self, key: ApiKey, *, depth: int = 0) -> Rights:
        """Tell what a key may do.

        With roles or permissions of its own those, else what its principal may. A user's key is a part of what that
        user may do, a delegated one of what the key may do that it was made with. A service account's key needs no
        bindings: who made it gave it these rights; what is granted to the account for a time comes on top.
        """
        if not key.roles and not key.permissions:
            own = await self.of_principal(key.principal_id, workspace_id=key.workspace_id)
        else:
            sources = await self._own_sources(key)
            own = Rights(compile_access(sources), _soonest(source.until for source in sources))
        outer = await self._outer(key, depth=depth)
        if outer is None:
            return replace(own, until=_soonest((own.until, key.ends_at)))
        return Rights(
            replace(own.access, within=outer.access), _soonest((own.until, key.ends_at, outer.until)), outer.fault
        )

    async def _outer(self, key: ApiKey, *, depth: int) -> Rights | None:
        """Tell what the key is a part of, None when it stands for itself."""
        if key.delegated and key.parent_id is not None:
            parent = await self._find_key(key.parent_id)
            if parent is None or depth >= _LONGEST_CHAIN:
                return Rights(compile_access([]), fault="parent_gone")
            rights = await self.of_key(parent, depth=depth + 1)
            return replace(rights, fault=rights.fault or self._parent_fault(parent))
        if key.principal_type is PrincipalType.USER and (key.roles or key.permissions):
            return await self.of_principal(key.principal_id)
        return None

    def _parent_fault(self, parent: ApiKey) -> str | None:
        if parent.status not in (KeyStatus.ACTIVE, KeyStatus.GRACE):
            return f"parent_{parent.status}"
        if parent.ends_at is not None and parent.ends_at <= self._clock.now():
            return "parent_expired"
        return None

    async def _own_sources(self, key: ApiKey) -> list[Source]:
        book, name = await self.book(), format_id(Prefix.KEY, key.key_id)
        sources = [
            Source(key.workspace_id, f"role {role} of {name}", book.get(role, frozenset()), source=name)
            for role in key.roles
        ]
        if key.permissions:
            sources.append(Source(key.workspace_id, f"permission of {name}", _known(key.permissions), source=name))
        if key.principal_type is PrincipalType.SERVICE_ACCOUNT and not key.delegated:
            granted = await grant_sources(self._session, key.principal_id, book, now=self._clock.now())
            sources += in_workspace(granted, key.workspace_id)
        return sources


def _soonest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
