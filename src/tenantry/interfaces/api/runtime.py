"""What a server process is made of; `entrypoints` assembles it, routes reach it through their unit of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenantry.capabilities.access.service import Admission
from tenantry.capabilities.approvals.service import ApprovalComments
from tenantry.capabilities.audit.service import AuditTrail, Notary, RegionLogs
from tenantry.capabilities.evidence.service import EvidenceLocker
from tenantry.capabilities.identity.service import KeyHasher, LoginFlows, TokenDesk
from tenantry.capabilities.limits.service import FeatureGate, LimitBook, RateKeeper
from tenantry.capabilities.notifications.service import AddressBook
from tenantry.capabilities.policies.service import PolicyBook
from tenantry.capabilities.sandboxes.service import (
    ImageLibrary,
    JobContent,
    JobNews,
    LiveClient,
    LiveContent,
    PortTokens,
    QueueView,
)
from tenantry.capabilities.tenants.ports import Provisioner, UsageSource
from tenantry.capabilities.tenants.service import (
    Directory,
    ImportService,
    Offboarding,
    OverlayCatalogue,
    PlanCatalogue,
    TenantKeyring,
    TenantRegistry,
)
from tenantry.capabilities.tenants.service.declared import DeclaredTenants
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.caches.vouchers import Vouchers
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.settings import Settings
from tenantry.interfaces.api.seats import Seats


@dataclass(frozen=True, slots=True)
class Runtime:
    """One for each process. Mappings are by region."""

    settings: Settings
    clock: Clock
    cursor_key: bytes
    digest_key: bytes
    cells: Cells
    directory: Directory
    admission: Admission
    book: LimitBook
    rates: RateKeeper
    features: FeatureGate
    policies: PolicyBook
    registry: TenantRegistry
    provisioner: Provisioner
    offboarding: Offboarding
    imports: ImportService
    objects: Mapping[str, ObjectStore]
    wrapper: KeyWrapper
    public_key: bytes
    """Of the installation, by which its certificates are checked."""
    declared: DeclaredTenants
    plans: PlanCatalogue
    overlays: OverlayCatalogue
    usage_sources: Sequence[UsageSource]
    hasher: KeyHasher
    flows: LoginFlows
    desk: TokenDesk
    keyrings: Mapping[str, TenantKeyring]
    trails: Mapping[str, AuditTrail]
    notaries: Mapping[str, Notary]
    region_logs: RegionLogs
    lockers: Mapping[str, EvidenceLocker]
    comments: Mapping[str, ApprovalComments]
    content: Mapping[str, JobContent]
    kept: Mapping[str, LiveContent]
    live: LiveClient
    libraries: Mapping[str, ImageLibrary]
    address_books: Mapping[str, AddressBook]
    queues: Mapping[str, QueueView]
    news: JobNews
    caches: Mapping[str, Caches]
    vouchers: Mapping[str, Vouchers]
    port_tokens: PortTokens
    seats: Seats
