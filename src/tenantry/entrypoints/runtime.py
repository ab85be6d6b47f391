"""Assembles what the processes are made of. Wiring only: who gets which port."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from tenantry.capabilities.access.service import OwnerAdmissionByKey
from tenantry.capabilities.approvals.service import CommentKind
from tenantry.capabilities.audit.service import Notary
from tenantry.capabilities.identity.service import KeyHasher, UserCount
from tenantry.capabilities.notifications.service import AddressBook
from tenantry.capabilities.sandboxes.service import (
    ImageLibrary,
    JobContent,
    JobContentKind,
    JobStopper,
    LiveContent,
    QueueView,
    SandboxKind,
    StoredContent,
    TenantImages,
    TransientKeys,
    TreeKind,
)
from tenantry.capabilities.tenants.adapters.cached_entries import TenantCaches
from tenantry.capabilities.tenants.adapters.folders import TenantFolders
from tenantry.capabilities.tenants.adapters.object_files import TenantObjects
from tenantry.capabilities.tenants.ports import ContentKind, Stopper, TenantStore, UsageSource
from tenantry.capabilities.tenants.service import (
    Directory,
    ImportFiles,
    KeysetShelf,
    MoverAccess,
    Offboarding,
    TenantKeyring,
)
from tenantry.capabilities.tenants.types import REVOCATIONS
from tenantry.engines.envelope.key_file import KeyFile
from tenantry.entrypoints.addresses import Addresses, addresses_of
from tenantry.entrypoints.granted import GrantFollower
from tenantry.entrypoints.prepare import KEY_FILE
from tenantry.entrypoints.provision import PlaceMaker
from tenantry.entrypoints.stores import bucket_of, open_queues, open_stores
from tenantry.entrypoints.trails import make_notaries
from tenantry.foundation.caches.ports import Caches
from tenantry.foundation.caches.vouchers import Vouchers
from tenantry.foundation.changes import CHANGES
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.cells import Cell, Cells, open_cell
from tenantry.foundation.database.places import Locator
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.database.selftest import examine_cell
from tenantry.foundation.errors import Fault
from tenantry.foundation.objects.factory import open_objects
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.secrets import Secrets, load_secrets
from tenantry.foundation.settings import Settings

USAGE_SOURCES: Final[tuple[UsageSource, ...]] = (UserCount(), StoredContent())
"""What counts the usage of tenants, each of its own rows."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What server and worker share."""

    settings: Settings
    secrets: Secrets
    addresses: Addresses
    clock: SystemClock
    cells: Cells
    directory: Directory
    wrapper: KeyFile
    content: dict[str, JobContent]
    libraries: dict[str, ImageLibrary]
    objects: dict[str, ObjectStore]
    keyrings: dict[str, TenantKeyring]
    caches: dict[str, Caches]
    """Of a server; a worker opens none."""
    vouchers: dict[str, Vouchers]
    """The same."""
    queues: dict[str, QueueView]
    """The same."""
    stack: AsyncExitStack
    """What is made of the parts later on, and is to be closed before them."""

    @property
    def stoppers(self) -> dict[str, Stopper]:
        """What stops the running things of a closed tenant or workspace, by the capability that runs them."""
        return {"sandboxes": JobStopper(settings=self.settings.jobs, clock=self.clock)}

    def grant_follower(self, cell: Cell) -> GrantFollower:
        jobs = JobStopper(settings=self.settings.jobs, clock=self.clock)
        return GrantFollower(cell=cell, directory=self.directory, jobs=jobs, clock=self.clock)

    @property
    def kept(self) -> dict[str, LiveContent]:
        """What seals and opens files of sandboxes, by region."""
        return {
            region: LiveContent(keyring=keyring, objects=self.objects[region])
            for region, keyring in self.keyrings.items()
        }

    @property
    def stores(self) -> dict[str, TenantStore]:
        """What of tenants lies outside of their database, in the order in which it is erased."""
        return {
            **self.archived,
            "caches": TenantCaches(self.caches),
            "directories": TenantFolders(self.settings.home),
        }

    @property
    def archived(self) -> dict[str, TenantObjects | TenantImages]:
        """Those whose things a tenant takes along in its archive."""
        return {"objects": TenantObjects(self.objects), "images": TenantImages(self.libraries)}

    @property
    def notaries(self) -> dict[str, Notary]:
        """What signs for the logs of each region."""
        return make_notaries(self.objects, settings=self.settings, secrets=self.secrets, clock=self.clock)

    @property
    def places(self) -> PlaceMaker:
        return PlaceMaker(self.addresses, self.settings)

    @property
    def mover_access(self) -> dict[str, MoverAccess]:
        """Tell in which regions, and as whom, this process works on whole tenants."""
        return {
            cell.region: MoverAccess(dsn, cell.signer)
            for cell in self.cells
            if (dsn := self.addresses.cells[cell.region].mover) is not None
        }

    @property
    def import_files(self) -> ImportFiles:
        limit = self.settings.server.max_upload_bytes
        return ImportFiles(self.settings.home, wrapper=self.wrapper, limit=limit)

    @property
    def owner_admission(self) -> OwnerAdmissionByKey:
        return OwnerAdmissionByKey(hasher=KeyHasher(self.secrets.pepper), clock=self.clock)

    @property
    def offboarding(self) -> Offboarding:
        return Offboarding(
            directory=self.directory,
            log=self.directory.operations(self.clock),
            cells=self.cells,
            clock=self.clock,
        )

    def address_book(self, region: str) -> AddressBook:
        """Seal and open where notices of a region's tenants go."""
        allowed = self.settings.notifications.allow_private_addresses
        return AddressBook(self.keyrings[region], allow_private=allowed)

    def content_kinds(self, region: str) -> dict[str, ContentKind]:
        """Make what forgets content whose time is over, by the name the purge list has for it."""
        kinds: tuple[ContentKind, ...] = (
            JobContentKind(content=self.content[region], clock=self.clock),
            TreeKind(content=self.kept[region], clock=self.clock),
            SandboxKind(content=self.kept[region]),
            CommentKind(clock=self.clock),
        )
        return {kind.name: kind for kind in kinds}


@asynccontextmanager
async def open_parts(
    settings: Settings, *, regions: tuple[str, ...] | None = None, serves: bool = True
) -> AsyncIterator[Parts]:
    """Open cells (all, or those named), directory, objects and, for what `serves`, caches; closes them again.

    Raises Fault `fence_broken` with every finding when a cell's self-test fails: nothing is served then.
    """
    addresses = addresses_of(settings, secrets := load_secrets(settings.home))
    clock, wrapper = SystemClock(), KeyFile.open(settings.home / KEY_FILE)
    served = regions or tuple(addresses.cells)
    cells: dict[str, Cell] = {}
    content, libraries, stored, keyrings = {}, {}, {}, {}
    directory = Directory(await open_pool(addresses.directory, search_path="directory", max_size=4))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(directory.close)
        stack.push_async_callback(Cells(cells).close)
        held_for = served if serves else ()
        caches = await stack.enter_async_context(open_stores(settings, regions=held_for, clock=clock))
        queues = await open_queues(addresses, regions=held_for, stack=stack)
        vouchers = {region: Vouchers(each, clock=clock) for region, each in caches.items()}
        for region in served:
            dsn, keeper = addresses.cells[region].app, vouchers.get(region)
            locate = partial(directory.locate, region=region)
            shelf = KeysetShelf(wrapper, clock)
            cell = cells[region] = await _cell_at(
                region, dsn, settings=settings, secrets=secrets, clock=clock, locate=locate, keeper=keeper, vault=shelf
            )
            await require_fence(dsn, cell)
            objects = stored[region] = open_objects(root=settings.home / region, bucket=bucket_of(settings, region))
            keyring = keyrings[region] = TenantKeyring(cell=cell, shelf=shelf)
            content[region] = _content_of(cell, objects, keyring=keyring, secrets=secrets)
            libraries[region] = ImageLibrary(home=settings.home, region=region)
        yield Parts(
            settings=settings,
            secrets=secrets,
            addresses=addresses,
            clock=clock,
            cells=Cells(cells),
            directory=directory,
            wrapper=wrapper,
            content=content,
            libraries=libraries,
            objects=stored,
            keyrings=keyrings,
            caches=caches,
            vouchers=vouchers,
            queues=queues,
            stack=stack,
        )


async def _cell_at(
    region: str,
    dsn: str,
    *,
    settings: Settings,
    secrets: Secrets,
    clock: SystemClock,
    locate: Locator,
    keeper: Vouchers | None,
    vault: KeysetShelf,
) -> Cell:
    cell = await open_cell(
        region,
        dsn,
        context_master=secrets.context_key,
        pool_size=settings.database.pool_size,
        clock=clock,
        locate=locate,
        keeper=keeper,
        vault=vault,
    )
    if keeper is not None:
        cell.link.subscribe(CHANGES, keeper.hear)
        cell.link.on_reconnect(keeper.forget_all)
    return cell


def _content_of(cell: Cell, objects: ObjectStore, *, keyring: TenantKeyring, secrets: Secrets) -> JobContent:
    cell.link.subscribe(REVOCATIONS, keyring.hear)
    cell.link.on_reconnect(keyring.forget_all)
    return JobContent(
        keyring=keyring,
        objects=objects,
        transient=TransientKeys(cell=cell, secret=secrets.context_key),
    )


async def require_fence(dsn: str, cell: Cell) -> None:
    """Examine a cell before serving it; raises Fault `fence_broken` with all findings."""
    findings = await examine_cell(dsn, signer=cell.signer)
    if findings:
        told = "; ".join(f"{finding.code}: {finding.detail} ({finding.remedy})" for finding in findings)
        raise Fault("fence_broken", f"region {cell.region}: {told}", layer="database", faults=told.split("; "))
