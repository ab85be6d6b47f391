"""What is kept of sandboxes: their environment, in their row, and each /workspace as an object that is sealed as it
streams, under a key of its own which the tenant's keyset wraps.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from uuid import UUID

from tenantry.capabilities.sandboxes.types.living import KeptTree, LiveSandbox
from tenantry.engines.envelope.keyring import Keyring
from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.engines.envelope.streams import open_stream, seal_stream
from tenantry.foundation.objects.ports import ObjectStore


class LiveContent:
    """Seals and opens; one for each cell."""

    def __init__(self, *, keyring: Keyring, objects: ObjectStore) -> None:
        self._keyring = keyring
        self._objects = objects

    async def seal_environment(
        self, environment: Mapping[str, str], *, tenant_id: UUID, sandbox_id: UUID
    ) -> tuple[bytes | None, bytes | None]:
        """Seal the environment under a key of the sandbox; gives the wrapped key and what it sealed, if anything."""
        if not environment:
            return None, None
        key, wrapped = await self._make_key(tenant_id, b"tenantry/sandbox/" + tenant_id.bytes + sandbox_id.bytes)
        return wrapped, key.seal(json.dumps(dict(environment)).encode(), b"environment/" + sandbox_id.bytes)

    async def open_environment(self, sandbox: LiveSandbox, *, tenant_id: UUID) -> dict[str, str]:
        if sandbox.given is None or sandbox.content_key is None:
            return {}
        context = b"tenantry/sandbox/" + tenant_id.bytes + sandbox.sandbox_id.bytes
        key = await self._open_key(tenant_id, sandbox.content_key, context)
        found: dict[str, str] = json.loads(key.open(sandbox.given, b"environment/" + sandbox.sandbox_id.bytes))
        return found

    async def make_tree_key(self, *, tenant_id: UUID, tree_id: UUID) -> tuple[Keyset, bytes]:
        """Make the key of a tree; gives it and its wrapped form."""
        return await self._make_key(tenant_id, _tree_context(tenant_id, tree_id))

    async def put_tree(
        self,
        key: Keyset,
        archive: AsyncIterator[bytes],
        *,
        tenant_id: UUID,
        place: str,
        sandbox_id: UUID,
        tree_id: UUID,
    ) -> tuple[int, bytes]:
        """Store an archive; gives its size and SHA-256. What the archive raises leaves nothing behind."""
        digest, size = hashlib.sha256(), 0

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in archive:
                size += len(chunk)
                digest.update(chunk)
                yield chunk

        sealed = seal_stream(measured(), keyset=key, associated=b"tree/" + tree_id.bytes)
        await self._objects.put(tenant_id, tree_key(place, sandbox_id, tree_id), sealed)
        return size, digest.digest()

    async def open_tree(self, tree: KeptTree, *, tenant_id: UUID) -> AsyncGenerator[bytes, None]:
        """Open an archive as it streams; raises NotFound `object_absent`, Fault, in a step of its own."""
        key = await self._open_key(tenant_id, tree.content_key, _tree_context(tenant_id, tree.tree_id))
        stored = self._objects.get(tenant_id, tree_key(tree.place, tree.sandbox_id, tree.tree_id))
        return open_stream(stored, keyset=key, associated=b"tree/" + tree.tree_id.bytes)

    async def delete_tree(self, *, tenant_id: UUID, place: str, sandbox_id: UUID, tree_id: UUID) -> None:
        """Idempotent."""
        await self._objects.delete(tenant_id, tree_key(place, sandbox_id, tree_id))

    async def sweep(self, *, tenant_id: UUID, place: str, sandbox_id: UUID, kept: set[UUID]) -> None:
        """Delete what lies in the folder of a sandbox and is none of those that are kept; idempotent."""
        known = {tree_key(place, sandbox_id, tree_id) for tree_id in kept}
        keys = [entry.key async for entry in self._objects.list_objects(tenant_id, _folder(place, sandbox_id))]
        for key in keys:
            if key not in known:
                await self._objects.delete(tenant_id, key)

    async def _make_key(self, tenant_id: UUID, context: bytes) -> tuple[Keyset, bytes]:
        keyset = Keyset.create()
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        return keyset, await keyset.wrapped(wrapper=wrapper, context=context)

    async def _open_key(self, tenant_id: UUID, wrapped: bytes, context: bytes) -> Keyset:
        wrapper = KeysetWrapper(await self._keyring.keyset(tenant_id))
        return await Keyset.unwrap(wrapped, wrapper=wrapper, context=context)


def _tree_context(tenant_id: UUID, tree_id: UUID) -> bytes:
    return b"tenantry/tree/" + tenant_id.bytes + tree_id.bytes


def _folder(place: str, sandbox_id: UUID) -> str:
    return f"{place}/sandboxes/{sandbox_id.hex}"


def tree_key(place: str, sandbox_id: UUID, tree_id: UUID) -> str:
    """Name the object of a kept tree."""
    return f"{_folder(place, sandbox_id)}/{tree_id.hex}"
