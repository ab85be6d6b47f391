"""Roles of a tenant's own, for the whole tenant or for one workspace."""

import re
from typing import Final
from uuid import UUID

from tenantry.capabilities.access import repository
from tenantry.capabilities.access.errors import (
    permission_not_for_role,
    role_exists,
    role_in_use,
    role_incomplete,
    role_not_found,
    role_slug_invalid,
    too_many_roles,
    version_mismatch,
)
from tenantry.capabilities.access.service.decide import Grantor, spelled_out
from tenantry.capabilities.access.types import (
    BUILT_IN_ROLES,
    NEEDS,
    TENANT_WIDE_PERMISSIONS,
    Permission,
    Role,
)
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession

MOST_ROLES: Final = 200
_SLUG: Final = re.compile(r"[a-z][a-z0-9-]{1,39}")


class RoleService:
    """Define, change and delete roles. What is built in stays as it is. Nobody defines more than they hold."""

    def __init__(self, *, session: TenantSession, audit: AuditService, clock: Clock) -> None:
        self._session = session
        self._audit = audit
        self._clock = clock

    async def create(
        self,
        *,
        slug: str,
        description: str,
        permissions: tuple[str, ...],
        workspace_id: UUID | None,
        grantor: Grantor,
    ) -> Role:
        """Define a role; its name is the tenant's, whichever place it is for.

        Raises Invalid `role_slug_invalid`, `permission_unknown`, `permission_not_for_role`, `role_incomplete`; Denied
        `grant_exceeds_own`; Conflict `role_exists`, `too_many_roles`.
        """
        if not _SLUG.fullmatch(slug):
            raise role_slug_invalid(slug)
        grantor.require_grantable(roles=(), permissions=permissions, workspace_id=workspace_id)
        _require_sound(permissions, workspace_id)
        if await repository.count_roles(self._session) >= MOST_ROLES:
            raise too_many_roles(MOST_ROLES)
        now = self._clock.now()
        role = Role(
            slug=slug,
            workspace_id=workspace_id,
            description=description,
            permissions=_sorted(permissions),
            version=1,
            created_at=now,
            created_by=self._session.scope.actor.id,
            updated_at=now,
        )
        if slug in BUILT_IN_ROLES or not await repository.insert_role(self._session, role):
            raise role_exists(slug)
        await self._record("role.created", slug, details={"permissions": " ".join(role.permissions)})
        return role

    async def get(self, slug: str, *, workspace_id: UUID | None) -> Role:
        """Find one defined in that very place; raises NotFound."""
        role = await repository.find_role(self._session, slug, workspace_id=workspace_id)
        if role is None:
            raise role_not_found()
        return role

    async def list_roles(self, *, workspace_id: UUID | None) -> list[Role]:
        """List what can be bound in a place, besides what is built in."""
        return await repository.list_roles(self._session, workspace_id=workspace_id)

    async def update(
        self,
        slug: str,
        *,
        workspace_id: UUID | None,
        description: str | None,
        permissions: tuple[str, ...] | None,
        grantor: Grantor,
        if_version: int | None,
    ) -> Role:
        """Change a role for everybody who has it, everywhere within a second.

        Who changes it holds what it held and what it will hold: it may be bound to deny as well as to allow. Raises as
        `create` does; Precondition `version_mismatch`.
        """
        role = await repository.find_role(self._session, slug, workspace_id=workspace_id, lock=True)
        if role is None:
            raise role_not_found()
        if if_version is not None and if_version != role.version:
            raise version_mismatch(role.version)
        wanted = role.permissions if permissions is None else _sorted(permissions)
        changed = tuple(sorted({*role.permissions, *wanted})) if wanted != role.permissions else ()
        grantor.require_grantable(roles=(), permissions=changed, workspace_id=workspace_id)
        _require_sound(wanted, workspace_id)
        await repository.update_role(
            self._session,
            slug,
            description=role.description if description is None else description,
            permissions=wanted,
            now=self._clock.now(),
        )
        await announce_revocation(self._session)
        gained, lost = sorted({*wanted} - {*role.permissions}), sorted({*role.permissions} - {*wanted})
        await self._record("role.updated", slug, details={"gained": " ".join(gained), "lost": " ".join(lost)})
        return await self.get(slug, workspace_id=workspace_id)

    async def delete(self, slug: str, *, workspace_id: UUID | None) -> None:
        """Delete a role that nobody has; raises Conflict `role_in_use` else."""
        await self.get(slug, workspace_id=workspace_id)
        if await repository.role_is_used(self._session, slug):
            raise role_in_use(slug)
        await repository.delete_role(self._session, slug)
        await announce_revocation(self._session)
        await self._record("role.deleted", slug)

    async def _record(self, action: str, slug: str, *, details: dict[str, str] | None = None) -> None:
        await self._audit.record(action, resource_type="role", resource_id=slug, details=details)


def _sorted(permissions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(permissions)))


def _require_sound(permissions: tuple[str, ...], workspace_id: UUID | None) -> None:
    """Refuse what can be no role: one that holds nothing, too much for its place, or half of what it needs."""
    held = spelled_out(Permission(name) for name in permissions)
    if not held:
        raise role_incomplete("permissions: a role holds at least one")
    if Permission.PLATFORM_ADMIN in held or (workspace_id is not None and held & TENANT_WIDE_PERMISSIONS):
        raise permission_not_for_role(min(held & TENANT_WIDE_PERMISSIONS))
    for permission in sorted(held & set(NEEDS)):
        if missing := sorted(NEEDS[permission] - held):
            raise role_incomplete(f"permissions: {permission} needs {', '.join(missing)}")
