"""The services that a request's handler uses, each built on the session of that request."""

from dataclasses import replace
from datetime import timedelta

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
    role_book,
    sources_of,
)
from tenantry.capabilities.access.types import Role, Source
from tenantry.capabilities.approvals.service import ApprovalRules, ApprovalService
from tenantry.capabilities.identity.service import IdentityService, InvitationService, LoginService, ProviderService
from tenantry.capabilities.limits.service import LimitService, MeteringService, QuotaService, RowRoom
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.notifications.service import ChannelService
from tenantry.capabilities.policies.service import BundleService, ExemptionService, PolicyService
from tenantry.capabilities.sandboxes.service import (
    ImagePulls,
    ImageService,
    JobService,
    JobStopper,
    LiveSandboxService,
    PastJobs,
    QueuedJobs,
    QueueShares,
    SnapshotService,
)
from tenantry.capabilities.secrets.service import SecretService
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
from tenantry.foundation.database.session import TenantSession
from tenantry.interfaces.api.proofs import Proofs


class Services(Proofs):
    """What a unit of work offers. Services of one request share its session, so what they do commits together."""

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
    def limits(self) -> LimitService:
        return LimitService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    @property
    def quotas(self) -> QuotaService:
        return QuotaService(session=self.session, book=self.runtime.book, clock=self.runtime.clock)

    @property
    def user_room(self) -> RowRoom:
        return RowRoom(self.quotas, Quota.USERS, whole_tenant=self.whole_tenant)

    @property
    def workspace_room(self) -> RowRoom:
        return RowRoom(self.quotas, Quota.WORKSPACES, whole_tenant=self.whole_tenant)

    @property
    def metering(self) -> MeteringService:
        keep = timedelta(days=self.runtime.settings.limits.metering_days)
        return MeteringService(session=self.session, clock=self.runtime.clock, keep=keep)

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
        return self.runtime.cells.session(replace(self.scope, workspace_id=None), beside=True)

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
            quotas=self.quotas,
            policies=self.policies,
            settings=self.runtime.settings.jobs,
            clock=self.runtime.clock,
        )

    @property
    def sandboxes(self) -> LiveSandboxService:
        return LiveSandboxService(
            session=self.session,
            audit=self.audit,
            jobs=self.jobs,
            content=self.runtime.kept[self.scope.region],
            workspaces=self.workspaces,
            quotas=self.quotas,
            policies=self.policies,
            stopper=JobStopper(settings=self.runtime.settings.jobs, clock=self.runtime.clock),
            clock=self.runtime.clock,
        )

    @property
    def snapshots(self) -> SnapshotService:
        return SnapshotService(
            session=self.session,
            audit=self.audit,
            sandboxes=self.sandboxes,
            content=self.runtime.kept[self.scope.region],
            client=self.runtime.live,
            quotas=self.quotas,
            clock=self.runtime.clock,
        )

    @property
    def secrets(self) -> SecretService:
        return SecretService(
            session=self.session, workspace_id=self.workspace_id, audit=self.audit, clock=self.runtime.clock
        )

    @property
    def queue_shares(self) -> QueueShares:
        return QueueShares(session=self.session, quotas=self.quotas)

    @property
    def policies(self) -> PolicyService:
        return PolicyService(
            session=self.session, book=self.runtime.policies, past=PastJobs(), clock=self.runtime.clock
        )

    @property
    def bundles(self) -> BundleService:
        runtime = self.runtime
        content = runtime.content[self.scope.region]
        return BundleService(
            session=self.session,
            book=runtime.policies,
            waiting=QueuedJobs(content=content, settings=runtime.settings.jobs, clock=runtime.clock),
            audit=self.audit,
            clock=runtime.clock,
        )

    @property
    def exemptions(self) -> ExemptionService:
        return ExemptionService(session=self.session, audit=self.audit, clock=self.runtime.clock)

    @property
    def images(self) -> ImageService:
        return ImageService(
            session=self.session,
            audit=self.audit,
            library=self.runtime.libraries[self.scope.region],
            quotas=self.quotas,
            clock=self.runtime.clock,
        )

    @property
    def image_pulls(self) -> ImagePulls:
        settings = self.runtime.settings
        return ImagePulls(
            session=self.session,
            audit=self.audit,
            library=self.runtime.libraries[self.scope.region],
            quotas=self.quotas,
            policies=self.policies,
            workspaces=self.workspaces,
            settings=settings.images,
            most_bytes=settings.server.max_upload_bytes,
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
