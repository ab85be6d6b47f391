"""How work gets secrets: named when it is asked for, opened when it begins."""

from collections.abc import Sequence
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.secrets import repository
from tenantry.capabilities.secrets.errors import secret_missing, secret_unknown
from tenantry.capabilities.secrets.service.sealing import place_of
from tenantry.capabilities.secrets.types import SecretReference
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


async def find_reference(
    session: TenantSession, name: str, *, version: int | None, workspace_id: UUID
) -> SecretReference:
    """Find what a name stands for now: the newest version, or the one named; raises Invalid `secret_unknown`."""
    found = await repository.find_by_name(session, name, workspace_id=workspace_id)
    if found is None:
        raise secret_unknown(name, version)
    wanted = found.version if version is None else version
    sealed = await repository.find_sealed(session, found.secret_id, wanted, workspace_id=workspace_id)
    if sealed is None:
        raise secret_unknown(name, version)
    return SecretReference(found.secret_id, name, wanted)


async def open_secrets(
    session: TenantSession,
    references: Sequence[SecretReference],
    *,
    workspace_id: UUID,
    keyset: Keyset,
    audit: AuditService,
    used_by: str,
) -> list[str]:
    """Open each, in their order, and record its use by the work `used_by`: commit before anything is done with them.

    Raises Gone `secret_missing` for one that was removed meanwhile, Gone `key_destroyed`, Fault `sealed_unreadable`
    for one that was altered or lay in another place.
    """
    values = []
    for reference in references:
        sealed = await repository.find_sealed(
            session, reference.secret_id, reference.version, workspace_id=workspace_id
        )
        if sealed is None:
            raise secret_missing(reference)
        place = place_of(
            tenant_id=session.scope.tenant_id,
            workspace_id=workspace_id,
            secret_id=reference.secret_id,
            version=reference.version,
        )
        values.append(keyset.open(sealed, place).decode())
        await audit.record(
            "secret.used",
            resource_type="secret",
            resource_id=format_id(Prefix.SECRET, reference.secret_id),
            details={"name": reference.name, "version": reference.version, "used_by": used_by},
        )
    return values
