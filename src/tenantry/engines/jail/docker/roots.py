"""Images of the engine, each made once of a root of ours and named by its digest."""

import asyncio
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from tenantry.engines.jail.docker.engine import Engine, EngineRefusedError
from tenantry.engines.jail.docker.keeper import PLACE, keeper
from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.types import ImageRoot
from tenantry.foundation.threads import in_own_thread

_LABEL: Final = "tenantry.image"
_PLACE_LABEL: Final = "tenantry.root"
_CHUNK: Final = 1 << 18


class Roots:
    """Imports what it is asked for; bound to the loop it is used on. `programs` are laid into each image, by place."""

    def __init__(self, engine: Engine, programs: Mapping[str, bytes] | None = None) -> None:
        self._engine = engine
        self._programs = programs if programs is not None else {PLACE: keeper()}
        told = b"".join(name.encode() + b"\0" + content for name, content in sorted(self._programs.items()))
        self._tag = hashlib.sha256(told).hexdigest()[:16]
        self._known: dict[tuple[str, Path], str] = {}
        self._lock = asyncio.Lock()

    async def image_of(self, root: ImageRoot) -> str:
        """Return the engine's id of that root's image, importing it if need be.

        Raises JailUnavailable `image_unreachable` when the root is not there, as after its removal.
        """
        if not await asyncio.to_thread(root.path.is_dir):
            self._known.pop((root.digest, root.path), None)
            raise JailUnavailable("image_unreachable", f"cannot reach {root.path}", remedy="import it again")
        async with self._lock:
            key = (root.digest, root.path)
            if key not in self._known:
                self._known[key] = await self._found(root) or await self._imported(root)
            return self._known[key]

    def forget(self, image: str) -> None:
        """Look again next time: the engine does not have it any more."""
        self._known = {key: value for key, value in self._known.items() if value != image}

    async def sweep(self) -> int:
        """Remove images whose root has been removed, unless something runs from them; returns how many it tried."""
        tried = 0
        for image in await self._engine.images(_LABEL):
            place = (image.get("Labels") or {}).get(_PLACE_LABEL)
            if place and not await asyncio.to_thread(Path(place).is_dir):
                await self._engine.forget_image(str(image["Id"]))
                tried += 1
        return tried

    async def _found(self, root: ImageRoot) -> str | None:
        found = await self._engine.image(self._name(root))
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        return str(found["Id"]) if found and labels.get(_LABEL) == root.digest else None

    async def _imported(self, root: ImageRoot) -> str:
        labels = {_LABEL: root.digest, _PLACE_LABEL: str(root.path)}
        changes = [f"LABEL {json.dumps(name)}={json.dumps(value)}" for name, value in labels.items()]
        try:
            await self._engine.import_root(_archive(root.path, self._programs), name=self._name(root), changes=changes)
        except EngineRefusedError as error:
            raise JailUnavailable(
                "docker_refused", f"the engine does not take the image: {error}", remedy="see the engine's log"
            ) from error
        found = await self._found(root)
        if found is None:
            raise JailUnavailable(
                "docker_refused", "the engine does not have the image it has taken", remedy="see the engine's log"
            )
        return found

    def _name(self, root: ImageRoot) -> str:
        return f"tenantry/{root.digest.removeprefix('sha256:')}:{self._tag}"


async def _archive(root: Path, programs: Mapping[str, bytes]) -> AsyncIterator[bytes]:
    """Write the tar in one thread and read it here, so that none of it lies anywhere."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    writing = in_own_thread(partial(_write, root, programs, writer))  # it waits for the engine
    try:
        while chunk := await asyncio.to_thread(os.read, reader, _CHUNK):
            yield chunk
        await writing
    finally:
        os.close(reader)
        with suppress(OSError):
            await writing


def _write(root: Path, programs: Mapping[str, bytes], descriptor: int) -> None:
    with os.fdopen(descriptor, "wb") as target, tarfile.open(fileobj=target, mode="w|") as archive:
        archive.add(root, arcname=".", recursive=True, filter=_owned_by_root)
        for place, content in programs.items():
            entry = tarfile.TarInfo(place)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
