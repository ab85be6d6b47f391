"""What an archive says of jobs and sandboxes, held against what has come with it.

Rows come from whoever wrote the archive, so nothing in them is believed: where things lie, whose they are, how large,
by which key they open. What is imported points at nothing that is not there, and nothing is there that no row names.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from tenantry.capabilities.sandboxes import repository
from tenantry.capabilities.sandboxes.service.content import artifact_key
from tenantry.capabilities.sandboxes.service.live_content import LiveContent, tree_key
from tenantry.capabilities.sandboxes.types.living import KeptTree, LiveSandbox
from tenantry.capabilities.tenants.errors import archive_refused
from tenantry.capabilities.tenants.service import is_place_of
from tenantry.engines.envelope.streams import sealed_bytes
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cells
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Fault, Gone, Invalid, NotFound
from tenantry.foundation.objects.keys import segments_of
from tenantry.foundation.objects.ports import ObjectStore
from tenantry.foundation.scope import SYSTEM, TenantScope

_RULE: Final = "kept"
_PAGE: Final = 200
_LIMITS: Final = frozenset({"cpus", "memory_mib", "pids"})
Sizes = dict[str, int]


class KeptInspection:
    """The `Inspection` port of tenants for artifacts, kept trees, and the sandboxes that begin from those."""

    def __init__(
        self,
        *,
        cells: Cells,
        objects: Mapping[str, ObjectStore],
        content: Mapping[str, LiveContent],
        forget_keys: Callable[[UUID, str], None],
        clock: Clock,
    ) -> None:
        """`objects` and `content` by region; `forget_keys` drops what an import before may have left in memory."""
        self._cells = cells
        self._objects = objects
        self._content = content
        self._forget_keys = forget_keys
        self._clock = clock

    async def inspect(self, tenant_id: UUID, *, region: str) -> None:
        """Hold rows and objects against each other, open every kept tree, and remove objects that no row names."""
        now = self._clock.now()
        async with self._cells.session(TenantScope(tenant_id, region, SYSTEM), lifecycle=True) as session:
            await _require_sound(session)
            artifacts = await repository.list_claimed_artifacts(session, now=now)
            trees = await repository.list_claimed_trees(session, now=now)
        wanted: Sizes = {}
        passing: Sizes = {}
        for one in artifacts:
            key = artifact_key(one.place, one.job_id, one.artifact_id)
            (passing if one.due else wanted)[key] = sealed_bytes(one.size_bytes)
        for tree, due in trees:
            key = tree_key(tree.place, tree.sandbox_id, tree.tree_id)
            (passing if due else wanted)[key] = sealed_bytes(tree.size_bytes)
        await self._require_objects(self._objects[region], tenant_id, wanted, passing)
        self._forget_keys(tenant_id, region)
        for tree, due in trees:
            if not due:
                await _require_openable(self._content[region], tree, tenant_id=tenant_id)

    async def _require_objects(self, objects: ObjectStore, tenant_id: UUID, wanted: Sizes, passing: Sizes) -> None:
        missing, unnamed = dict(wanted), []
        async for entry in objects.list_objects(tenant_id):
            if (size := missing.pop(entry.key, None)) is None:
                if entry.key not in passing:
                    unnamed.append(entry.key)
            elif entry.size != size:
                raise archive_refused(_RULE, "an object is not of the size that its row tells")
        if missing:
            raise archive_refused(_RULE, f"{len(missing)} objects that rows name are not in it")
        for key in unnamed:
            await objects.delete(tenant_id, key)


async def _require_sound(session: TenantSession) -> None:
    places = await repository.list_places(session)
    for workspace_id, place in places:
        if not is_place_of(place, workspace_id) or not _is_key(artifact_key(place, workspace_id, workspace_id)):
            raise archive_refused(_RULE, "a job or sandbox keeps its things outside of its workspace")
    if told := await repository.contradictions_of(session):
        raise archive_refused(_RULE, told[0])
    for workspace_id in sorted({workspace_id for workspace_id, _ in places}):
        before = None
        while page := await _sandboxes(session, workspace_id, before):
            before = page[-1].sandbox_id


async def _sandboxes(session: TenantSession, workspace_id: UUID, before: UUID | None) -> list[LiveSandbox]:
    try:
        page = await repository.list_sandboxes(session, workspace_id=workspace_id, before=before, limit=_PAGE)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise archive_refused(_RULE, "what a sandbox connects to, or is given, is told as nobody here does") from None
    for sandbox in page:
        if not _has_limits(sandbox.limits):
            raise archive_refused(_RULE, "a sandbox has limits that none has")
        if not _has_labels(sandbox.labels):
            raise archive_refused(_RULE, "a sandbox has labels that are none")
    return page


def _has_limits(told: object) -> bool:
    return isinstance(told, Mapping) and told.keys() <= _LIMITS and all(map(_positive, told.values()))


def _has_labels(told: object) -> bool:
    return isinstance(told, Mapping) and all(isinstance(value, str) for value in told.values())


def _is_key(key: str) -> bool:
    try:
        segments_of(key)
    except Invalid:
        return False
    return True


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


async def _require_openable(content: LiveContent, tree: KeptTree, *, tenant_id: UUID) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        async for piece in await content.open_tree(tree, tenant_id=tenant_id):
            digest.update(piece)
            size += len(piece)
    except (Fault, Gone, NotFound):
        raise archive_refused(_RULE, "files of a sandbox do not open by the key that is told with them") from None
    if (size, digest.digest()) != (tree.size_bytes, tree.sha256):
        raise archive_refused(_RULE, "files of a sandbox are not what their row says")
