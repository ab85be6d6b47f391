"""What is known of the policies of tenants, so that asking them costs no query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tenantry.capabilities.policies import repository
from tenantry.capabilities.policies.service.compiling import Compiler
from tenantry.capabilities.policies.types import Exemption, Placed, State
from tenantry.capabilities.tenants.service import KnownTenants
from tenantry.engines.rules.types import Kind
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.scope import SYSTEM, TenantScope

Live = Mapping[UUID | None, Sequence[Placed]]
_NONE: Final[Sequence[Placed]] = ()


@dataclass(frozen=True, slots=True)
class TenantPolicies:
    """All layers of one tenant; `enforced` and `shadow` by workspace, of the tenant itself under None."""

    platform: tuple[Placed, ...]
    enforced: Live
    shadow: Live
    exemptions: Sequence[Exemption]
    _in: dict[UUID | None, tuple[Placed, ...]] = field(default_factory=dict)

    def enforced_in(self, workspace_id: UUID | None) -> tuple[Placed, ...]:
        """List what decides there, the widest first."""
        if (held := self._in.get(workspace_id)) is None:
            own = self.enforced.get(workspace_id, _NONE) if workspace_id else _NONE
            held = self._in[workspace_id] = (*self.platform, *self.enforced.get(None, _NONE), *own)
        return held

    def shadow_in(self, workspace_id: UUID | None) -> tuple[Placed, ...]:
        own = self.shadow.get(workspace_id, _NONE) if workspace_id else _NONE
        return (*self.shadow.get(None, _NONE), *own)

    def exemptions_in(self, workspace_id: UUID | None) -> list[Exemption]:
        return [each for each in self.exemptions if each.workspace_id in (None, workspace_id)]


class PolicyBook:
    """One for each process that asks policies; `platform` is what the installation's files say."""

    def __init__(self, *, cells: Cells, platform: Sequence[Placed], clock: Clock) -> None:
        self.platform: Final[Mapping[Kind, Placed]] = {placed.kind: placed for placed in platform}
        self._cells = cells
        self._clock = clock
        self._compiler = Compiler()
        self._known = KnownTenants(cells=cells, clock=clock, read=self._read)

    async def of(self, tenant_id: UUID, *, region: str) -> TenantPolicies:
        """Tell them, asking the database, in a transaction of its own, only when they are not known."""
        return await self._known.of(tenant_id, region=region)

    def forget(self, payload: str) -> None:
        """Drop what is known of a tenant, named by the hexadecimal of its id as the news name it."""
        self._known.forget(payload)

    async def _read(self, tenant_id: UUID, region: str) -> TenantPolicies:
        scope = TenantScope(tenant_id=tenant_id, region=region, actor=SYSTEM)
        async with self._cells.session(scope, lifecycle=True, beside=True) as session:
            live = await repository.list_live(session)
            exemptions = await repository.list_open(session, now=self._clock.now())
        found: dict[State, dict[UUID | None, list[Placed]]] = {State.ENFORCED: {}, State.SHADOW: {}}
        for policy in live:
            found[policy.state].setdefault(policy.workspace_id, []).append(self._compiler.place(policy))
        return TenantPolicies(
            platform=tuple(self.platform.values()),
            enforced=found[State.ENFORCED],
            shadow=found[State.SHADOW],
            exemptions=exemptions,
        )
