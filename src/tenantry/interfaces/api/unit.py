"""The unit of work of one request: its scope, its transaction, and the services built on them."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from starlette.requests import Request

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import (
    GRANT_KIND,
    AccessService,
    BoundMemberships,
    GrantService,
    GrantSubject,
    GroupService,
    KeyGrantor,
    Rights,
    RightsReader,
    RoleService,
    bindable_roles,
    decide,
    role_book,
    sources_of,
)
from tenantry.capabilities.access.types import Caller, Role, Source
from tenantry.capabilities.approvals.service import ApprovalRules, ApprovalService
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import IdentityService, InvitationService, LoginService, ProviderService
from tenantry.capabilities.notifications.service import ChannelService
from tenantry.capabilities.sandboxes.service import ImageService, JobService
from tenantry.capabilities.tenants.service import (
    EnvironmentService,
    ExportService,
    MoveService,
    OperationLog,
    OverlayService,
    TenantService,
    UsageService,
    WorkspaceService,
)
from tenantry.engines.envelope.keyset import Keyset
from tenantry.foundation.caches.vouchers import Lease
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault, Invalid, Precondition
from tenantry.foundation.scope import TenantScope
from tenantry.interfaces.api.judgement import Judgement
from tenantry.kit.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from tenantry.interfaces.api.runtime import Runtime


_DIGEST: Final = re.compile(r"\.[0-9a-f]{16}$")


class Unchanged(Exception):
    """The caller holds this very version already; the guard answers 304, and nothing is rendered."""


class Unit:
    """One request inside one tenant. Services share its session; the guard commits it."""

    def __init__(
        self,
        *,
        runtime: "Runtime",
        request: Request,
        caller: Caller,
        scope: TenantScope,
        judgement: Judgement,
        lifecycle: bool,
        about: UUID | None = None,
    ) -> None:
        self.about = about or scope.tenant_id
        """Which tenant the request is about: the scope's, or one that was erased, which has no scope any more."""
        self.runtime = runtime
        self.request = request
        self.caller = caller
        self.lifecycle = lifecycle
        self.scope = scope
        self.judgement = judgement
        self.session: TenantSession = runtime.cells.session(scope, lifecycle=lifecycle)
        self.etag: str | None = None
        self.resource_id: str | None = None
        self.on_settle: Callable[[], Awaitable[None]] | None = None
        """What belongs into the transaction of the effect: the idempotency record."""
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        """What follows the commit, before the answer; a crash in between must be harmless."""

    async def settle(self) -> None:
        """Commit before the handler is done, for one that then waits: what the guard would do after it.

        Raises Denied where the answer depended on the thing and no handler has told of it: nothing is kept then.
        """
        question = self.judgement
        if not question.settled and question.permission and question.decision:
            raise permission_missing(question.permission, question.decision)
        if self.on_settle is not None:
            await self.on_settle()
            self.on_settle = None
        await self.session.commit()

    def judge(self, *, environment: str | None, labels: Mapping[str, str]) -> None:
        """Decide again where the answer depends on the thing itself; raises Denied `permission_missing`.

        Called by each handler that reads or makes such a thing, for every one, before it shows or does anything.
        """
        question = self.judgement
        if question.permission is None or (question.settled and not question.about.told):
            return
        about = replace(question.about, told=True, environment=environment, labels=labels)
        decision = decide(self.caller.access, question.permission, self.scope.workspace_id, about)
        if not decision.allowed:
            raise permission_missing(question.permission, decision)
        self.judgement = replace(question, decision=decision, about=about)
        self.scope = self.session.scope = replace(self.scope, allowed_by=decision.source or "")

    @property
    def workspace_id(self) -> UUID:
        """The workspace that the route names; the guard has checked it."""
        if self.scope.workspace_id is None:
            raise Fault("workspace_missing", "this route is not bound to a workspace", layer="api")
        return self.scope.workspace_id

    @property
    def audit(self) -> AuditService:
        return AuditService(session=self.session, clock=self.runtime.clock)

    @property
    def tenants(self) -> TenantService:
        return TenantService(
            session=self.session,
            audit=self.audit,
            clock=self.runtime.clock,
            retention=timedelta(days=self.runtime.settings.tenants.retention_days),
        )

    @property
    def operations(self) -> OperationLog:
        return self.runtime.directory.operations(self.runtime.clock)

    @property
    def moves(self) -> MoveService:
        return MoveService(
            directory=self.runtime.directory,
            log=self.operations,
            provisioner=self.runtime.provisioner,
            audit=self.audit,
            clock=self.runtime.clock,
        )

    @property
    def exports(self) -> ExportService:
        return ExportService(
            directory=self.runtime.directory,
            log=self.operations,
            objects=self.runtime.objects,
            wrapper=self.runtime.wrapper,
            audit=self.audit,
            clock=self.runtime.clock,
        )

    @property
    def workspaces(self) -> WorkspaceService:
        return WorkspaceService(
            session=self.session, directory=self.runtime.directory, audit=self.audit, clock=self.runtime.clock
        )

    @property
    def environments(self) -> EnvironmentService:
        return EnvironmentService(
            session=self.session, workspace_id=self.workspace_id, audit=self.audit, clock=self.runtime.clock
        )

    @property
    def overlays(self) -> OverlayService:
        runtime = self.runtime
        return OverlayService(session=self.session, catalogue=runtime.overlays, audit=self.audit, clock=runtime.clock)

    @property
    def usage(self) -> UsageService:
        runtime = self.runtime
        return UsageService(
            session=self.session, sources=runtime.usage_sources, plans=runtime.plans, clock=runtime.clock
        )

    @property
    def identity(self) -> IdentityService:
        return IdentityService(
            session=self.session,
            audit=self.audit,
            hasher=self.runtime.hasher,
            clock=self.runtime.clock,
            settings=self.runtime.settings.identity,
        )

    async def keyset(self) -> Keyset:
        """Open the tenant's keys; before the first query, because a look for them is a transaction of its own."""
        return await self.runtime.keyrings[self.scope.region].keyset(self.scope.tenant_id)

    @property
    def memberships(self) -> BoundMemberships:
        return BoundMemberships(
            session=self.session, audit=self.audit, workspaces=self.workspaces, clock=self.runtime.clock
        )

    @property
    def logins(self) -> LoginService:
        runtime = self.runtime
        return LoginService(session=self.session, audit=self.audit, hasher=runtime.hasher, clock=runtime.clock)

    @property
    def providers(self) -> ProviderService:
        return ProviderService(
            session=self.session,
            audit=self.audit,
            logins=self.logins,
            memberships=self.memberships,
            clock=self.runtime.clock,
        )

    @property
    def invitations(self) -> InvitationService:
        return InvitationService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    @property
    def access(self) -> AccessService:
        return AccessService(
            session=self.session,
            identity=self.identity,
            audit=self.audit,
            clock=self.runtime.clock,
            whole_tenant=self.whole_tenant,
        )

    @property
    def roles(self) -> RoleService:
        return RoleService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    async def bindable(self) -> list[Role]:
        """List the roles of the tenant's own that can be bound where the request is."""
        async with self.whole_tenant() as session:
            roles = RoleService(session=session, audit=self.audit, clock=self.runtime.clock)
            return await roles.list_roles(workspace_id=self.scope.workspace_id)

    @property
    def groups(self) -> GroupService:
        return GroupService(session=self.session, accounts=self.identity, audit=self.audit, clock=self.runtime.clock)

    async def grantor(self) -> KeyGrantor:
        """Make what judges whatever this caller gives to others."""
        async with self.whole_tenant() as session:
            book = await bindable_roles(session, self.scope.workspace_id)
        return KeyGrantor(self.caller.access, book, sources_of=self._sources_of)

    async def _sources_of(self, principal_id: str) -> list[Source]:
        async with self.whole_tenant() as session:
            book = await role_book(session)
            return await sources_of(session, principal_id, book, now=self.runtime.clock.now())

    async def rights_of(self, principal_id: str) -> Rights:
        """Tell what another principal of the tenant may do."""
        async with self.whole_tenant() as session:
            reader = RightsReader(session=session, clock=self.runtime.clock, find_key=self.identity.find_key)
            return await reader.of_principal(principal_id)

    def whole_tenant(self) -> TenantSession:
        """Open a session of its own: one narrowed to a workspace sees nothing of what holds in the whole tenant."""
        return self.runtime.cells.session(replace(self.scope, workspace_id=None))

    @property
    def approvals(self) -> ApprovalService:
        return ApprovalService(
            session=self.session,
            audit=self.audit,
            workspaces=self.workspaces,
            comments=self.runtime.comments[self.scope.region],
            subjects={GRANT_KIND: GrantSubject(settings=self.runtime.settings.access, clock=self.runtime.clock)},
            rules=ApprovalRules.of(self.runtime.settings),
            clock=self.runtime.clock,
        )

    async def grants(self) -> GrantService:
        """Make the grants as this caller may deal with them."""
        return GrantService(
            session=self.session,
            approvals=self.approvals,
            workspaces=self.workspaces,
            accounts=self.identity,
            grantor=await self.grantor(),
            principal=self.caller.principal,
            settings=self.runtime.settings.access,
            clock=self.runtime.clock,
        )

    @property
    def jobs(self) -> JobService:
        return JobService(
            session=self.session,
            audit=self.audit,
            content=self.runtime.content[self.scope.region],
            workspaces=self.workspaces,
            settings=self.runtime.settings.jobs,
            clock=self.runtime.clock,
        )

    @property
    def images(self) -> ImageService:
        return ImageService(
            session=self.session,
            audit=self.audit,
            library=self.runtime.libraries[self.scope.region],
            clock=self.runtime.clock,
        )

    @property
    def channels(self) -> ChannelService:
        """Those of the workspace that the route names, else of the tenant."""
        return ChannelService(
            session=self.session,
            workspace_id=self.scope.workspace_id,
            addresses=self.runtime.address_books[self.scope.region],
            by_email=self.runtime.settings.notifications.smtp_url is not None,
            audit=self.audit,
            clock=self.runtime.clock,
        )

    @property
    def if_version(self) -> int | None:
        """The version that If-Match names, None when it names none; raises Precondition for anything unreadable.

        Of a tag `version.digest` the version counts: what a digest tells apart is read, not changed.
        """
        text = self.request.headers.get("if-match")
        if text is None or text == "*":
            return None
        number = _DIGEST.sub("", text.strip('"'))
        if not number.isdecimal() or len(number) > 18:  # noqa: PLR2004 - bigint
            raise Precondition("version_mismatch", "If-Match: names no version of this resource", layer="api")
        return int(number)

    def show_version(self, version: int, *, lasting: bool = True) -> None:
        """Answer with the ETag of a version that was read in this transaction; raises Unchanged (ADR 0017).

        Not `lasting` is an address that may come to mean another resource, whose versions begin anew: a slug.
        """
        self.show_tag(str(version), lasting=lasting)

    def show_tag(self, tag: str, *, lasting: bool = True) -> None:
        """Answer with this ETag, of `[A-Za-z0-9.-]`; raises Unchanged when a GET names it in If-None-Match."""
        self.etag = f'"{tag}"'
        if not lasting:
            return
        if self.request.method == "GET" and self.etag in _tags(self.request.headers.getlist("if-none-match")):
            raise Unchanged

    async def show_vouched(self, name: str) -> None:
        """Raise Unchanged if the store vouches that the caller holds the present version, asking no database.

        `name` is that of `foundation/changes`, of what the guard has let the caller read. Else whoever holds the lease
        says afterwards which version it has read. Only what server processes alone change may be asked for (ADR 0017).
        """
        if self.lifecycle or "if-none-match" not in self.request.headers:
            return
        tenant_id, region = self.scope.tenant_id, self.scope.region
        cell, vouchers = self.runtime.cells.get(region), self.runtime.vouchers[region]
        if not cell.fresh_for(tenant_id):
            return
        told = await vouchers.ask(tenant_id, name)
        if isinstance(told, Lease):
            lease = told

            async def fill() -> None:
                if self.etag is not None:
                    await vouchers.fill(lease, self.etag.strip('"'))

            self.afterwards.append(fill)
        # Asked again: news of a change may have stopped to come while the store was asked.
        elif told is not None and cell.fresh_for(tenant_id):
            self.show_tag(told)

    def read_cursor(self, cursor: str | None, *, filters: str = "") -> str | None:
        """Open the cursor of this very list; raises Invalid `cursor_invalid` for any other."""
        if cursor is None:
            return None
        position = decode_cursor(
            key=self.runtime.cursor_key, binding=self._binding(filters), cursor=cursor, now=self._now()
        )
        if position is None:
            raise Invalid("cursor_invalid", "cursor: not one of this list, or too old: begin anew", layer="api")
        return position

    def make_cursor(self, position: str, *, filters: str = "") -> str:
        return encode_cursor(
            key=self.runtime.cursor_key, binding=self._binding(filters), position=position, now=self._now()
        )

    def _binding(self, filters: str) -> str:
        workspace = self.scope.workspace_id.hex if self.scope.workspace_id else "*"
        return f"{self.scope.tenant_id.hex}/{workspace}/{self.request.url.path}?{filters}"

    def _now(self) -> int:
        return int(self.runtime.clock.now().timestamp())


def _tags(headers: list[str]) -> set[str]:
    """Read the tags of If-None-Match by weak comparison (RFC 9110 §13.1.2); what is no tag matches nothing.

    `*` is no tag of ours: every GET would be 304, and nobody would see an answer.
    """
    return {tag.strip().removeprefix("W/") for header in headers for tag in header.split(",")}


def unit_of(request: Request) -> Unit:
    """Give the unit that the guard made for this request."""
    unit: Unit = request.state.unit
    return unit
