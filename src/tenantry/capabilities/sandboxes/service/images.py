"""Images of a workspace: read-only root file systems, imported once, named by their digest."""

import asyncio
import contextlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits.service import QuotaService, give_back, settle
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.errors import image_name_taken, image_not_found
from tenantry.capabilities.sandboxes.service.image_room import caps_within, refuse_root
from tenantry.capabilities.sandboxes.types import HOST_IMAGE, IMAGE, Image
from tenantry.engines.jail.errors import ImageTooLarge
from tenantry.engines.jail.images import ImageStore, StagedImage
from tenantry.engines.jail.tree import Caps
from tenantry.engines.jail.types import ImageRoot
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id
from tenantry.foundation.objects.threads import in_thread
from tenantry.foundation.threads import Lines, entered_in_thread

_IMPORTS: Final = 2


class ImageLibrary:
    """The roots of one cell on this machine: a store for each tenant, one for the machine's own `host` image."""

    def __init__(self, *, home: Path, region: str) -> None:
        self._home = home
        self._region = region
        self._host: ImageRoot | None = None
        self._stores: dict[UUID, ImageStore] = {}
        self._pulling: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self.imports = Lines(each=_IMPORTS)
        """By tenant, for archives that are extracted here."""

    def directory(self, tenant_id: UUID) -> Path:
        return self._home / self._region / format_id(Prefix.TENANT, tenant_id) / "images"

    def tenants(self) -> list[UUID]:
        """List tenants that have images here; blocking."""
        found = []
        for place in (self._home / self._region).glob(f"{Prefix.TENANT}_*/images"):
            with contextlib.suppress(Invalid):
                found.append(parse_id(Prefix.TENANT, place.parent.name))
        return found

    async def store(self, tenant_id: UUID) -> ImageStore:
        known = self._stores.get(tenant_id)
        if known is None:
            known = self._stores[tenant_id] = await asyncio.to_thread(ImageStore, self.directory(tenant_id))
        return known

    def pulling(self, tenant_id: UUID) -> asyncio.Lock:
        """Give what lets a tenant pull one image at a time here; the caller holds on to it."""
        return self._pulling.setdefault(tenant_id, asyncio.Lock())

    def forget(self, tenant_id: UUID) -> None:
        """Drop the store of a tenant that is gone."""
        self._stores.pop(tenant_id, None)

    async def root(self, *, tenant_id: UUID, digest: str | None) -> ImageRoot:
        """Find a root by digest, None is the host's; raises NotFound `image_not_found` for one not on this machine."""
        if digest is None:
            if self._host is None:
                self._host = await asyncio.to_thread(lambda: ImageStore(self._home / "images").host())
            return self._host
        store = await self.store(tenant_id)
        return await asyncio.to_thread(store.resolve, digest)


class ImageService:
    """Import, list, remove, in the session's workspace."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        library: ImageLibrary,
        quotas: QuotaService,
        clock: Clock,
    ) -> None:
        self._session = session
        self._audit = audit
        self._quotas = quotas
        self._library = library
        self._clock = clock

    async def import_archive(self, *, workspace_id: UUID, name: str, source: str, archive: Path) -> Image:
        """Import a tar of `docker save`, of an OCI layout or of a directory; raises Invalid for a hostile one.

        Its size is what its root takes. Raises Conflict `name_taken`, and Exhausted `quota_exceeded` where there is no
        room for it: of what is refused nothing is kept.
        """
        if name == HOST_IMAGE or await repository.find_image(self._session, workspace_id=workspace_id, name=name):
            raise image_name_taken(name)
        caps = await caps_within(self._quotas, workspace_id=workspace_id)
        # Extraction takes seconds: no transaction stays open meanwhile.
        await self._session.rollback()
        store = await self._library.store(self._session.scope.tenant_id)
        try:
            async with (
                self._library.imports.turn(self._session.scope.tenant_id),
                entered_in_thread(_staged(store, source, archive, caps)) as found,
            ):
                image = await self._keep(found, workspace_id=workspace_id, name=name, source=source)
                root = await in_thread(found.admit)
                # Imported now, to the sweep, even if it was here before.
                await in_thread(os.utime, root.path.parent)
                return image
        except ImageTooLarge as error:
            await refuse_root(self._quotas, error.bytes, workspace_id=workspace_id)

    async def _keep(self, found: StagedImage, *, workspace_id: UUID, name: str, source: str) -> Image:
        image = Image(
            image_id=new_id(),
            name=name,
            digest=found.digest,
            size_bytes=found.bytes,
            source=source,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
        )
        if not await repository.insert_image(self._session, image, workspace_id=workspace_id):
            raise image_name_taken(name)
        await self._record("image.imported", image)
        kept = {Quota.STORAGE: image.size_bytes}
        await self._quotas.reserve(image.image_id, kept, kind=IMAGE, workspace_id=workspace_id)
        await settle(self._session, image.image_id, kept, clock=self._clock)
        return image

    async def get(self, image_id: UUID, *, workspace_id: UUID) -> Image:
        image = await repository.find_image(self._session, workspace_id=workspace_id, image_id=image_id)
        if image is None:
            raise image_not_found()
        return image

    async def list_images(self, *, workspace_id: UUID, after: UUID | None = None, limit: int = 50) -> list[Image]:
        return await repository.list_images(self._session, workspace_id=workspace_id, after=after, limit=limit)

    async def remove(self, image_id: UUID, *, workspace_id: UUID) -> None:
        """Forget an image. Jobs that start from it keep it until they end; then the sweep removes its root."""
        image = await self.get(image_id, workspace_id=workspace_id)
        await repository.delete_image(self._session, image_id)
        await self._record("image.removed", image)
        await give_back(self._session, image_id, (Quota.STORAGE,), clock=self._clock)

    async def _record(self, action: str, image: Image) -> None:
        await self._audit.record(
            action,
            resource_type="image",
            resource_id=format_id(Prefix.IMAGE, image.image_id),
            details={"name": image.name, "digest": image.digest},
        )


def _staged(store: ImageStore, source: str, archive: Path, caps: Caps) -> AbstractContextManager[StagedImage]:
    if source == "docker_archive":
        return store.staged_docker_archive(archive, caps=caps)
    if source == "oci_layout":
        return store.staged_oci_layout(archive, caps=caps)
    return store.staged_directory_archive(archive, caps=caps)
