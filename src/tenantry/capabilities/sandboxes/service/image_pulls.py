"""Images from registries: judged by their reference before anybody is asked, by their content before it is fetched."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits.service import QuotaService, give_back, settle
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.policies.errors import policy_denied
from tenantry.capabilities.policies.service import PolicyService
from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.errors import image_name_taken, image_too_large, pull_timed_out
from tenantry.capabilities.sandboxes.service.image_room import caps_within, refuse_root
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.sandboxes.service.judging import detail_of
from tenantry.capabilities.sandboxes.service.pull_progress import PullTeller, Tell
from tenantry.capabilities.sandboxes.types import IMAGE, Image
from tenantry.capabilities.tenants.service import WorkspaceService
from tenantry.engines.jail.errors import ImageNotFound, ImageTooLarge
from tenantry.engines.jail.images import ImageStore, StagedImage
from tenantry.engines.jail.registries import ANY, Credentials, Registries, pullable
from tenantry.engines.jail.tree import Caps, stored_bytes
from tenantry.engines.jail.types import ImageRoot
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.image_settings import ANY_REGISTRY, PLAIN, ImageSettings
from tenantry.foundation.objects.threads import in_thread
from tenantry.foundation.threads import entered_in_thread

if TYPE_CHECKING:
    from tenantry.engines.jail.registry import Resolved
    from tenantry.engines.jail.registry_calls import RegistryCalls

SOURCE: Final = "registry"


class ImagePulls:
    """Pulls into the session's workspace."""

    def __init__(
        self,
        *,
        session: TenantSession,
        audit: AuditService,
        library: ImageLibrary,
        quotas: QuotaService,
        policies: PolicyService,
        workspaces: WorkspaceService,
        settings: ImageSettings,
        most_bytes: int,
        clock: Clock,
    ) -> None:
        """`most_bytes`: of all parts as the registry has them."""
        self._session = session
        self._audit = audit
        self._library = library
        self._quotas = quotas
        self._policies = policies
        self._workspaces = workspaces
        self._settings = settings
        self._most_bytes = most_bytes
        self._clock = clock

    async def pull(
        self,
        text: str,
        *,
        workspace_id: UUID,
        credentials: Credentials | None = None,
        tell: Tell | None = None,
    ) -> Image:
        """Pull an image, named by its completed reference; where that means what is here already, nothing changes.

        An image of that name with another digest is replaced, as a tag moves. A retry is safe. `tell` hears how far it
        is, for the first time when a registry is about to be asked. Raises Denied
        `registry_not_allowed`, `policy_denied`, `address_refused`; Invalid for what is no image; Exhausted
        `quota_exceeded`; Unavailable `registry_unavailable`, `pull_timed_out`.
        """
        from tenantry.engines.jail.registry import resolve
        from tenantry.engines.jail.registry_calls import RegistryCalls

        reference = pullable(text)
        registries = registries_of(self._settings)
        registries.require(reference.registry)
        name = str(reference)
        await self._judge(name, None, workspace_id=workspace_id)
        before = await self._present(name, workspace_id)
        # A pull takes seconds: no transaction stays open meanwhile.
        await self._session.rollback()
        teller = PullTeller(name, tell)
        deadline = asyncio.get_running_loop().time() + self._settings.pull_seconds
        turn = self._library.pulling(self._session.scope.tenant_id)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(deadline):
                    await stack.enter_async_context(turn)
                    calls = await stack.enter_async_context(
                        RegistryCalls(reference, registries=registries, credentials=credentials)
                    )
                    resolved = await resolve(calls, reference)
            except TimeoutError:
                raise pull_timed_out(self._settings.pull_seconds) from None
            store = await self._library.store(self._session.scope.tenant_id)
            root = await _root(store, resolved.digest)
            if before is not None and before.digest == resolved.digest and root is not None:
                return before
            await self._judge(name, resolved.digest, workspace_id=workspace_id)
            caps = await self._require_room(resolved.manifest.size_bytes, workspace_id, before)
            if root is not None:
                teller.storing(resolved.manifest)
                return await self._keep_present(name, root, workspace_id=workspace_id)
            fetched = self._fetched(store, calls, resolved, name=name, caps=caps, deadline=deadline, teller=teller)
            return await self._keep_fetched(name, fetched, workspace_id=workspace_id)

    async def _judge(self, name: str, digest: str | None, *, workspace_id: UUID) -> None:
        workspace = await self._workspaces.get(workspace_id)
        checked = await self._policies.check_image(
            name, digest=digest, workspace_id=workspace_id, settings=workspace.settings
        )
        if checked.outcome.denied:
            raise policy_denied(detail_of(checked.outcome), reason=checked.outcome.decisive, current=name)

    async def _present(self, name: str, workspace_id: UUID) -> Image | None:
        image = await repository.find_image(self._session, workspace_id=workspace_id, name=name)
        if image is not None and image.source != SOURCE:
            raise image_name_taken(name)
        return image

    async def _require_room(self, size: int, workspace_id: UUID, before: Image | None) -> Caps:
        """Refuse what has no room before it is fetched, `size` bytes as the registry has it; tell the room of its root.

        That this is held comes with its row.
        """
        if size > self._most_bytes:
            raise image_too_large(size, most=self._most_bytes)
        await self._quotas.reserve(new_id(), {Quota.STORAGE: size}, kind=IMAGE, workspace_id=workspace_id)
        await self._session.rollback()
        freed = 0 if before is None else before.size_bytes
        caps = await caps_within(self._quotas, workspace_id=workspace_id, freed=freed)
        await self._session.rollback()
        return caps

    @contextlib.asynccontextmanager
    async def _fetched(
        self,
        store: ImageStore,
        calls: "RegistryCalls",
        resolved: "Resolved",
        *,
        name: str,
        caps: Caps,
        deadline: float,
        teller: PullTeller,
    ) -> AsyncIterator[StagedImage]:
        """Give what may be admitted within the block; nothing else of it is kept."""
        from tenantry.engines.jail.registry import download

        async with contextlib.AsyncExitStack() as stack:
            folder = await stack.enter_async_context(entered_in_thread(store.receiving()))
            try:
                async with asyncio.timeout_at(deadline):
                    await download(calls, resolved, into=folder, progress=teller.fetched)
                    teller.unpacking()
                    staged = store.staged_oci_layout(folder, name=name, caps=caps, unpacked=teller.unpacked)
                    found = await stack.enter_async_context(entered_in_thread(staged))
            except TimeoutError:
                raise pull_timed_out(self._settings.pull_seconds) from None
            teller.storing(resolved.manifest)
            yield found

    async def _keep_fetched(
        self, name: str, fetched: contextlib.AbstractAsyncContextManager[StagedImage], *, workspace_id: UUID
    ) -> Image:
        """Put a root into the store once its room is held; where there is none, Exhausted, and nothing is kept."""
        try:
            async with fetched as found:
                image = await self._keep(name, found.digest, found.bytes, workspace_id=workspace_id)
                root = await in_thread(found.admit)
                await in_thread(os.utime, root.path.parent)
                return image
        except ImageTooLarge as error:
            await refuse_root(self._quotas, error.bytes, workspace_id=workspace_id)

    async def _keep_present(self, name: str, root: ImageRoot, *, workspace_id: UUID) -> Image:
        await in_thread(os.utime, root.path.parent)  # imported now, to the sweep, though it was here before
        size = await in_thread(stored_bytes, root.path)
        return await self._keep(name, root.digest, size, workspace_id=workspace_id)

    async def _keep(self, name: str, digest: str, size: int, *, workspace_id: UUID) -> Image:
        image = Image(
            image_id=new_id(),
            name=name,
            digest=digest,
            size_bytes=size,
            source=SOURCE,
            created_at=self._clock.now(),
            created_by=self._session.scope.actor.id,
        )
        before = await self._present(name, workspace_id)
        if before is not None and before.digest == image.digest:
            return before
        if before is not None:
            await repository.delete_image(self._session, before.image_id)
        if not await repository.insert_image(self._session, image, workspace_id=workspace_id):
            # Somebody pulled it in the same moment, and has committed by now.
            there = await self._present(name, workspace_id)
            if there is None or there.digest != image.digest:
                raise image_name_taken(name)
            return there
        details = {"name": name, "digest": image.digest, "size_bytes": image.size_bytes}
        await self._audit.record(
            "image.pulled",
            resource_type="image",
            resource_id=format_id(Prefix.IMAGE, image.image_id),
            details=details | ({"replaced": before.digest} if before is not None else {}),
        )
        kept = {Quota.STORAGE: image.size_bytes}
        if before is not None:
            await give_back(self._session, before.image_id, tuple(kept), clock=self._clock)
        await self._quotas.reserve(image.image_id, kept, kind=IMAGE, workspace_id=workspace_id)
        await settle(self._session, image.image_id, kept, clock=self._clock)
        return image


def registries_of(settings: ImageSettings) -> Registries:
    private = {name.removeprefix(PLAIN): name.startswith(PLAIN) for name in settings.private_registries}
    return Registries(frozenset(ANY if name == ANY_REGISTRY else name for name in settings.registries), private)


async def _root(store: ImageStore, digest: str) -> ImageRoot | None:
    try:
        return await in_thread(store.resolve, digest)
    except ImageNotFound:
        return None
