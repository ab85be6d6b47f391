"""The log of a region: its leaves are the checkpoints of its tenants' logs, its root is signed, here and elsewhere.

Whoever rewrites one tenant's log, and its checkpoints, must rewrite this one with it; and the other regions sign its
root only if it begins with what they have seen of it. It is the operator's: a tenant's own checkpoints tell it what it
needs, and how much others do is not its business (ADR 0040).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.service.checkpoints import KEPT, Notary, Witness
from tenantry.capabilities.audit.types import SignedCheckpoint, SignedRoot
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.errors import MerkleError, OutOfTree
from tenantry.engines.merkle.notes import Note
from tenantry.engines.merkle.proofs import consistency_plan, inclusion_plan, verify_consistency
from tenantry.engines.merkle.tree import EMPTY_ROOT, Frontier, leaf_hash
from tenantry.foundation.errors import Unavailable

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Opener = Callable[[], AbstractAsyncContextManager[PoolConnectionProxy[asyncpg.Record]]]

_SIGNED_EVERY_SECONDS: Final = 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Anchor:
    """That a tenant's checkpoint is leaf `index`, from 0, of its region's log: `path` leads to the root (RFC 9162)."""

    region: str
    index: int
    leaf: bytes
    path: tuple[bytes, ...]
    root: SignedRoot


def checkpoint_leaf(note: bytes) -> bytes:
    """Hash a tenant's checkpoint as a leaf of its region's log: the text that is signed, without signatures."""
    return leaf_hash(Note.parse(note).text.encode())


class RegionLogs:
    """The logs of the regions that this process sees.

    `opened` opens a transaction on a region's cell as the sealer, which commits when it is left.
    """

    def __init__(
        self, opened: "Mapping[str, Opener]", *, notaries: Mapping[str, Notary], witnesses: Mapping[str, Witness]
    ) -> None:
        self._opened = opened
        self._notaries = notaries
        self._witnesses = witnesses

    async def append(self, region: str, made: Sequence[SignedCheckpoint]) -> None:
        """Append checkpoints that are about to be kept; one that is there already stands. A retry is safe."""
        leaves = list(dict.fromkeys(checkpoint_leaf(one.note) for one in made))
        async with self._opened[region]() as connection:
            size, stored = await repository.take_region_head(connection)
            known = await repository.find_known_leaves(connection, leaves)
            if new := [leaf for leaf in leaves if leaf not in known]:
                appended = Frontier.counted(stored, size).append_many(new)
                await repository.write_region_growth(connection, new, first=size, appended=appended)

    async def sign(self, region: str, *, thin: bool = False) -> SignedRoot | None:
        """Sign what the region's tree is, if it has grown since its last root, and the witness has been told.

        `thin` also lets go of old roots, but one an hour.
        """
        async with self._opened[region]() as connection:
            size, stored = await repository.take_region_head(connection)
            last = await repository.find_region_root(connection)
            if size == (last.size if last else 0):
                return None
            root = self._notaries[region].root(Frontier.counted(stored, size))
            await asyncio.to_thread(self._witnesses[region].tell, [root])
            await repository.insert_region_root(connection, root)
            if thin:
                await repository.thin_region_roots(connection, before=root.made_at - KEPT)
            return root

    async def cross_sign(self) -> None:
        """Let each region sign the others' newest roots, unless one does not begin with what was seen of it.

        Regions whose databases do not answer are passed over, and signed later.
        """
        for region in self._opened:
            for other in self._opened:
                if other != region:
                    try:
                        await self._sign_elsewhere(region, by=other)
                    except Unavailable as error:
                        _log.warning("audit.cross_signing_waits", region=region, by=other, code=error.code)
                    except MerkleError as error:
                        _log.error("audit.region_forked", region=region, by=other, reason=str(error))

    async def root(self, region: str) -> SignedRoot:
        """Give the newest. Raises Unavailable `root_missing` before the first, which follows a tenant's checkpoint."""
        async with self._opened[region]() as connection:
            return await _newest(connection)

    async def roots(self) -> dict[str, SignedRoot]:
        """Give the newest root of each region that has one."""
        found = {}
        for region, opened in self._opened.items():
            async with opened() as connection:
                if root := await repository.find_region_root(connection):
                    found[region] = root
        return found

    async def anchor(self, region: str, note: bytes) -> Anchor:
        """Prove that a tenant's checkpoint is in its region's newest root; raises Unavailable `root_missing`."""
        leaf = checkpoint_leaf(note)
        async with self._opened[region]() as connection:
            root = await _newest(connection)
            index = (await repository.find_known_leaves(connection, [leaf])).get(leaf)
            if index is None or index >= root.size:
                raise _missing()
            plan = inclusion_plan(index=index, size=root.size)
            path = plan.compute(await repository.find_region_hashes(connection, plan.ranges))
        return Anchor(region, index, leaf, path, root)

    async def _sign_elsewhere(self, region: str, *, by: str) -> None:
        origin, signer = self._notaries[region].name, self._notaries[by]
        async with self._opened[region]() as connection:
            newest = await repository.find_region_root(connection)
        if newest is None or signer.has_signed(newest.note):
            return
        checkpoint = Checkpoint.parse(Note.parse(newest.note).text)
        async with self._opened[by]() as seeing:
            size, root = await repository.take_seen_root(seeing, origin) or (0, EMPTY_ROOT)
            if checkpoint.size < size:
                raise OutOfTree(f"its log had {size} checkpoints and has {checkpoint.size}: it was rolled back")
            async with self._opened[region]() as connection:
                plan = consistency_plan(size1=size, size2=checkpoint.size)
                path = plan.compute(await repository.find_region_hashes(connection, plan.ranges))
            verify_consistency(size1=size, root1=root, size2=checkpoint.size, root2=checkpoint.root, proof=path)
            await asyncio.to_thread(self._witnesses[by].tell, [newest])
            await repository.write_seen_root(seeing, origin, size=checkpoint.size, root=checkpoint.root)
        async with self._opened[region]() as connection:
            note = Note.parse(await repository.take_region_note(connection, newest.size))
            await repository.write_region_note(connection, newest.size, signer.countersigned(note))


async def _newest(connection: "PoolConnectionProxy[asyncpg.Record]") -> SignedRoot:
    root = await repository.find_region_root(connection)
    if root is None:
        raise _missing()
    return root


def _missing() -> Unavailable:
    return Unavailable(
        "root_missing",
        "no root of the region has been signed since that checkpoint; one is, a second after it",
        layer="audit",
        retry_after=_SIGNED_EVERY_SECONDS,
    )
