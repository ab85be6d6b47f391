"""What the server's routes are served with, of the parts that server and worker share. Wiring only."""

from tenantry.capabilities.access.service import Admission, OwnerAdmissionByKey
from tenantry.capabilities.approvals.service import ApprovalComments
from tenantry.capabilities.identity.service import KeyHasher
from tenantry.capabilities.limits.service import FeatureGate, LimitBook
from tenantry.capabilities.sandboxes.service import JobNews, LiveClient
from tenantry.capabilities.tenants.service import (
    ImportService,
    OverlayCatalogue,
    PlanCatalogue,
    TenantKeys,
    TenantRegistry,
    load_catalogue,
    load_plans,
)
from tenantry.capabilities.tenants.service.declared import DeclaredTenants
from tenantry.entrypoints.declared import make_declared
from tenantry.entrypoints.evidence import make_lockers
from tenantry.entrypoints.limits import make_book, make_policies, make_rates
from tenantry.entrypoints.link import link_caller
from tenantry.entrypoints.logins import Logins, make_logins
from tenantry.entrypoints.provision import PlaceMaker
from tenantry.entrypoints.runtime import USAGE_SOURCES, Parts
from tenantry.entrypoints.sealing import make_region_logs
from tenantry.entrypoints.trails import make_trails
from tenantry.foundation.derivation import derive_key
from tenantry.foundation.signatures import Signer
from tenantry.interfaces.api.runtime import Runtime
from tenantry.interfaces.api.seats import Seats


def make_runtime(parts: Parts) -> Runtime:
    settings, clock, hasher = parts.settings, parts.clock, KeyHasher(parts.secrets.pepper)
    plans = load_plans(settings.plans_file)
    book = make_book(settings.limits, cells=parts.cells, plans=plans, clock=clock)
    overlays = load_catalogue(plans=plans, slos_file=settings.slos_file, labels_file=settings.labels_file)
    admission = _admission(parts, hasher, logins := _logins(parts, hasher, book))
    return Runtime(
        settings=settings,
        clock=clock,
        cursor_key=parts.secrets.cursor_key,
        digest_key=derive_key(parts.secrets.cursor_key, purpose="idempotency"),
        cells=parts.cells,
        directory=parts.directory,
        provisioner=parts.places,
        offboarding=parts.offboarding,
        imports=_import_service(parts, plans),
        objects=parts.objects,
        wrapper=parts.wrapper,
        public_key=Signer(parts.secrets.signing_key).public_key,
        admission=admission,
        book=book,
        features=FeatureGate(book=book, plans=plans),
        policies=make_policies(settings, cells=parts.cells, clock=clock),
        rates=make_rates(parts.settings.limits, book=book, caches=parts.caches, clock=clock),
        registry=(registry := _registry(parts, plans=plans, overlays=overlays, hasher=hasher)),
        declared=_declared(parts, registry=registry, plans=plans, overlays=overlays, admission=admission),
        plans=plans,
        overlays=overlays,
        usage_sources=USAGE_SOURCES,
        hasher=hasher,
        flows=logins.flows,
        desk=logins.desk,
        keyrings=parts.keyrings,
        notaries=parts.notaries,
        region_logs=make_region_logs(parts),
        lockers=make_lockers(parts),
        trails=make_trails(parts.cells, directory=parts.directory, settings=settings, clock=clock),
        comments={region: ApprovalComments(keyring=keyring) for region, keyring in parts.keyrings.items()},
        content=parts.content,
        kept=parts.kept,
        live=LiveClient(link_caller(settings.worker_link)),
        libraries=parts.libraries,
        address_books={cell.region: parts.address_book(cell.region) for cell in parts.cells},
        queues=parts.queues,
        news=JobNews(parts.cells),
        caches=parts.caches,
        vouchers=parts.vouchers,
        port_tokens=logins.port_tokens,
        seats=Seats(most=settings.server.max_streams_per_tenant),
    )


def _declared(
    parts: Parts,
    *,
    registry: TenantRegistry,
    plans: PlanCatalogue,
    overlays: OverlayCatalogue,
    admission: Admission,
) -> DeclaredTenants:
    return make_declared(
        parts.settings,
        registry=registry,
        directory=parts.directory,
        cells=parts.cells,
        plans=plans,
        overlays=overlays,
        admission=admission,
        clock=parts.clock,
    )


def _admission(parts: Parts, hasher: KeyHasher, logins: Logins) -> Admission:
    return Admission(
        cells=parts.cells,
        directory=parts.directory,
        hasher=hasher,
        clock=parts.clock,
        readers=logins.readers,
    )


def _logins(parts: Parts, hasher: KeyHasher, book: LimitBook) -> Logins:
    return make_logins(
        cells=parts.cells,
        directory=parts.directory,
        keyrings=parts.keyrings,
        book=book,
        hasher=hasher,
        secrets=parts.secrets,
        settings=parts.settings.identity,
        clock=parts.clock,
    )


def _import_service(parts: Parts, plans: PlanCatalogue) -> ImportService:
    return ImportService(
        directory=parts.directory,
        log=parts.directory.operations(parts.clock),
        cells=parts.cells,
        access=parts.mover_access,
        provisioner=parts.places,
        plans=plans,
        admission=parts.owner_admission,
        files=parts.import_files,
        regions=parts.settings.known_region_names,
        clock=parts.clock,
    )


def _registry(parts: Parts, *, plans: PlanCatalogue, overlays: OverlayCatalogue, hasher: KeyHasher) -> TenantRegistry:
    return TenantRegistry(
        directory=parts.directory,
        cells=parts.cells,
        plans=plans,
        overlays=overlays,
        keys=TenantKeys(parts.wrapper),
        admission=OwnerAdmissionByKey(hasher=hasher, clock=parts.clock),
        provisioner=PlaceMaker(parts.addresses, parts.settings),
        regions=parts.settings.known_region_names,
        clock=parts.clock,
    )
