"""Pulling from a registry (OCI distribution specification 1.1): what is meant first, then its parts, into a layout.

Nothing a registry says is believed: documents and parts must have the digest and length under which they were named.
What is written is an image layout, which is imported by the rules of any other.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Descriptor,
    Manifest,
    choose,
    digest_of,
    parse_index,
    parse_manifest,
    require_content,
)
from tenantry.engines.jail.registries import RegistryUnavailable
from tenantry.engines.jail.registry_calls import RegistryCalls, read_most
from tenantry.foundation.objects.threads import in_thread
from tenantry.kit.image_references import Reference

if TYPE_CHECKING:
    import httpx

_ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.1
_WRITE_BYTES: Final = 1 << 20
_PARTIAL: Final = 206


@dataclass(frozen=True, slots=True)
class Document:
    media_type: str
    digest: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference means here: `top` is what the registry has under it, a manifest or an index that lists ours."""

    top: Document
    own: Document
    manifest: Manifest

    @property
    def digest(self) -> str:
        return self.top.digest


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been fetched so far: none of the numbers is ever less than before.

    A part that several layers name is fetched once, and counts once among the bytes.
    """

    layers_done: int
    layers_total: int
    bytes_done: int
    bytes_total: int


async def resolve(calls: RegistryCalls, reference: Reference) -> Resolved:
    """Find the manifest for this machine. Raises as `RegistryCalls.get`, and ImageInvalid for what is none."""
    top = own = await _document(calls, reference.digest or reference.tag)
    if reference.digest and top.digest != reference.digest:
        raise ImageInvalid("image_digest_mismatch", f"the registry has something else under {reference.digest}")
    if top.media_type in INDEX_TYPES:
        chosen = choose(parse_index(top.raw))
        own = await _document(calls, chosen.digest)
        require_content(own.raw, chosen)
    if own.media_type not in MANIFEST_TYPES:
        raise ImageInvalid("image_manifest_malformed", f"the registry has no manifest but {own.media_type[:100]!r}")
    return Resolved(top, own, parse_manifest(own.raw))


async def download(
    calls: RegistryCalls, resolved: Resolved, *, into: Path, progress: Callable[[Progress], object] | None = None
) -> None:
    """Fetch all parts into a layout in the empty directory `into`, which is the caller's to remove.

    A connection that breaks is taken up where it broke, some times. Raises as `resolve`.
    """
    blobs = into / "blobs" / "sha256"
    await in_thread(lambda: blobs.mkdir(parents=True))
    manifest = resolved.manifest
    parts = list({part.digest: part for part in (manifest.config, *manifest.layers)}.values())
    tally = _Tally(manifest, sum(part.size for part in parts), progress)
    for part in parts:
        await _fetch(calls, part, blobs / _hex(part.digest), tally.of_part)
        tally.finish(part)
    for document in (resolved.own, resolved.top):
        await in_thread((blobs / _hex(document.digest)).write_bytes, document.raw)
    top = resolved.top
    described = {"mediaType": top.media_type, "digest": top.digest, "size": len(top.raw)}
    await in_thread((into / "index.json").write_text, json.dumps({"schemaVersion": 2, "manifests": [described]}))
    await in_thread((into / "oci-layout").write_text, '{"imageLayoutVersion": "1.0.0"}')


async def _document(calls: RegistryCalls, name: str) -> Document:
    import httpx

    try:
        async with calls.get(f"manifests/{name}", headers={"Accept": _ACCEPT}) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip()
            raw = await read_most(response, MAX_MANIFEST)
    except httpx.TransportError as error:
        # Without the text of the error, which may quote the request.
        raise RegistryUnavailable(
            "registry_unavailable", f"the registry cannot be asked: {type(error).__name__}"
        ) from None
    return Document(kind, digest_of(raw), raw)


class _Tally:
    """Tells what has been fetched; of a part that has to begin anew nothing is taken back."""

    def __init__(self, manifest: Manifest, total: int, progress: Callable[[Progress], object] | None) -> None:
        self._named = [layer.digest for layer in manifest.layers]
        self._progress = progress
        self._before = 0
        self._told = Progress(0, len(self._named), 0, total)

    def of_part(self, done: int) -> None:
        self._tell(self._told.layers_done, self._before + done)

    def finish(self, part: Descriptor) -> None:
        self._before += part.size
        self._tell(self._told.layers_done + self._named.count(part.digest), self._before)

    def _tell(self, layers: int, done: int) -> None:
        told = replace(self._told, layers_done=layers, bytes_done=max(done, self._told.bytes_done))
        if self._progress is not None and told != self._told:
            self._progress(told)
        self._told = told


class _Part:
    """A file that grows as it is fetched, with its hash."""

    def __init__(self, file: BinaryIO, descriptor: Descriptor) -> None:
        self._file = file
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self.size = 0

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> None:
        if self.size + len(content) > self._descriptor.size:
            raise ImageInvalid("image_size_mismatch", f"{self._descriptor.digest} is longer than was said")
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def finish(self) -> None:
        if f"sha256:{self._hash.hexdigest()}" != self._descriptor.digest:
            raise ImageInvalid("image_digest_mismatch", f"the registry has something else as {self._descriptor.digest}")


async def _fetch(calls: RegistryCalls, part: Descriptor, place: Path, told: Callable[[int], object]) -> None:
    import httpx

    with await in_thread(place.open, "xb") as file:
        fetched = _Part(file, part)
        for attempt in range(_ATTEMPTS):
            try:
                headers = {"Range": f"bytes={fetched.size}-"} if fetched.size else {}
                async with calls.get(f"blobs/{part.digest}", headers=headers) as response:
                    await _receive(response, fetched, told)
            except httpx.TransportError:
                pass
            except RegistryUnavailable:
                if attempt == _ATTEMPTS - 1:
                    raise
            if fetched.size == part.size:
                await in_thread(fetched.finish)
                return
            if attempt < _ATTEMPTS - 1:
                await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
    raise RegistryUnavailable("registry_unavailable", f"the registry breaks off again and again, in {part.digest}")


async def _receive(response: "httpx.Response", fetched: _Part, told: Callable[[int], object]) -> None:
    if response.status_code != _PARTIAL:
        await in_thread(fetched.restart)
    elif not response.headers.get("content-range", "").startswith(f"bytes {fetched.size}-"):
        raise RegistryUnavailable("registry_answer_invalid", "the registry sends another piece than was asked for")
    held = bytearray()
    try:
        async for chunk in response.aiter_raw():
            held += chunk
            if len(held) >= _WRITE_BYTES:
                await in_thread(fetched.write, bytes(held))
                held.clear()
                told(fetched.size)
    finally:  # what came before a break is kept
        await in_thread(fetched.write, bytes(held))
    told(fetched.size)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
