"""Versions of a place's policies: written, tried in shadow, enforced, retired."""

from collections.abc import Sequence
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.policies import repository
from tenantry.capabilities.policies.errors import (
    policy_invalid,
    policy_not_found,
    policy_version_mismatch,
    state_conflict,
)
from tenantry.capabilities.policies.ports import WaitingWork
from tenantry.capabilities.policies.service.book import PolicyBook
from tenantry.capabilities.policies.service.compiling import require_settings, settings_placed
from tenantry.capabilities.policies.service.evaluating import ask_all, judge
from tenantry.capabilities.policies.types import Layer, Outcome, Placed, Policy, State
from tenantry.capabilities.tenants.service import announce_revocation
from tenantry.capabilities.tenants.types import WorkspaceSettings
from tenantry.engines.rules.documents import Bundle, load
from tenantry.engines.rules.errors import DocumentError, DocumentFault
from tenantry.engines.rules.types import JobFacts, Kind
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id


class BundleService:
    """Policies of one place of the session's tenant; `workspace_id` None means the tenant as a whole."""

    def __init__(
        self,
        *,
        session: TenantSession,
        book: PolicyBook,
        waiting: WaitingWork,
        audit: AuditService,
        clock: Clock,
    ) -> None:
        self._session = session
        self._book = book
        self._waiting = waiting
        self._audit = audit
        self._clock = clock

    async def get(self, workspace_id: UUID | None, kind: Kind, *, version: int | None = None) -> Policy:
        """Find a version; without a number that in force, else that in shadow, else the newest. Raises NotFound."""
        found = await repository.find_policy(self._session, workspace_id, kind, version=version)
        if found is None:
            raise policy_not_found()
        return found

    async def list_versions(
        self,
        workspace_id: UUID | None,
        *,
        kinds: Sequence[Kind] = tuple(Kind),
        before: UUID | None = None,
        limit: int = 50,
    ) -> list[Policy]:
        return await repository.list_policies(self._session, workspace_id, kinds=kinds, before=before, limit=limit)

    async def put(
        self, workspace_id: UUID | None, kind: Kind, content: bytes, *, state: State, if_version: int | None
    ) -> Policy:
        """Make a new version in a state, for every process within a second.

        Raises Invalid `policy_invalid` with line and rule of every fault, and then nothing has changed; Precondition
        where `if_version` (0: none yet) is not the newest.
        """
        bundle, source = _loaded(kind, content)
        newest = await repository.lock_kind(self._session, workspace_id, kind)
        if if_version is not None and if_version != newest:
            raise policy_version_mismatch()
        made = await repository.insert_policy(
            self._session,
            workspace_id=workspace_id,
            kind=kind,
            version=newest + 1,
            digest=bundle.digest,
            document=bundle.canonical,
            source=source,
            now=self._clock.now(),
        )
        if state is State.DRAFT:
            await self._record("policy.drafted", made, before=None, ended=0)
            return made
        return await self._enter(made, state, bundle)

    async def promote(self, workspace_id: UUID | None, kind: Kind, version: int, state: State) -> Policy:
        """Bring a version into shadow or force, or retire it; raises NotFound.

        Raises Conflict `state_conflict` for one in force that is to be in shadow: it would be in force no more.
        """
        await repository.lock_kind(self._session, workspace_id, kind)
        found = await self.get(workspace_id, kind, version=version)
        if found.state is state:
            return found
        if found.state is State.ENFORCED and state is not State.RETIRED:
            raise state_conflict()
        try:
            bundle = load(kind, found.source.encode())
        except DocumentError as error:
            if state is not State.RETIRED:
                raise policy_invalid(error.faults) from None
            bundle = None
        return await self._enter(found, state, bundle)

    async def _enter(self, policy: Policy, state: State, bundle: Bundle | None) -> Policy:
        changed = await repository.set_state(self._session, policy, state, now=self._clock.now())
        await announce_revocation(self._session)
        ended = 0
        verb = "retired"
        layer = Layer.TENANT if policy.workspace_id is None else Layer.WORKSPACE
        if state is State.SHADOW:
            verb = "shadowed"
        elif state is State.ENFORCED and bundle is not None:
            verb = "enforced"
            ended = await self._recheck(policy.workspace_id, Placed(layer, policy.kind, bundle, policy.version))
        elif policy.kind is Kind.NETWORK and policy.state is State.ENFORCED:
            ended = await self._recheck_without(policy.workspace_id, layer)
        await self._record(f"policy.{verb}", changed, before=policy.state, ended=ended)
        return changed

    async def apply_settings(self, workspace_id: UUID, settings: WorkspaceSettings) -> None:
        """Ask what a workspace's settings say of images now of what waits there, in the transaction that changes them.

        Raises Invalid `image_glob_invalid` for lists that could decide nothing.
        """
        require_settings(settings)
        for placed in settings_placed(settings):
            await self._recheck(workspace_id, placed)

    async def _recheck(self, workspace_id: UUID | None, placed: Placed) -> int:
        """Ask what is enforced now of what was accepted under what was enforced before, and waits."""
        scope, now = self._session.scope, self._clock.now()
        known = await self._book.of(scope.tenant_id, region=scope.region)

        def judged(place: UUID, work: Sequence[JobFacts]) -> Outcome:
            exemptions = known.exemptions_in(place)
            return judge((placed,), ask_all(work), exemptions=exemptions, now=now)

        return await self._waiting.recheck(self._session, workspace_id=workspace_id, kind=placed.kind, judge=judged)

    async def _recheck_without(self, workspace_id: UUID | None, layer: Layer) -> int:
        """Ask of what waits for connections whether the other layers still allow any."""
        scope, now = self._session.scope, self._clock.now()
        known = await self._book.of(scope.tenant_id, region=scope.region)

        def judged(place: UUID, work: Sequence[JobFacts]) -> Outcome:
            networks = [one for one in known.enforced_in(place) if one.kind is Kind.NETWORK and one.layer is not layer]
            asked = any(facts.network for facts in work)
            return judge(networks, ask_all(work), exemptions=(), now=now, network=asked)

        return await self._waiting.recheck(self._session, workspace_id=workspace_id, kind=Kind.NETWORK, judge=judged)

    async def _record(self, action: str, policy: Policy, *, before: State | None, ended: int) -> None:
        await self._audit.record(
            action,
            resource_type="policy",
            resource_id=format_id(Prefix.POLICY, policy.policy_id),
            details={
                "kind": policy.kind.value,
                "version": policy.version,
                "digest": policy.digest,
                **({"from": before.value} if before else {}),
                **({"ended_jobs": ended} if ended else {}),
            },
        )


def _loaded(kind: Kind, content: bytes) -> tuple[Bundle, str]:
    try:
        bundle = load(kind, content)
        source = content.decode()
    except DocumentError as error:
        raise policy_invalid(error.faults) from None
    except UnicodeDecodeError:
        raise policy_invalid([DocumentFault("", None, "is not UTF-8")]) from None
    if "\0" in source or _holds_nul(bundle.canonical):
        raise policy_invalid([DocumentFault("", None, "holds NUL, which no database keeps")])
    return bundle, source


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(name) or _holds_nul(each) for name, each in value.items())
    return isinstance(value, list) and any(_holds_nul(each) for each in value)
