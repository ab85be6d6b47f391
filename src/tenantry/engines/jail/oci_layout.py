"""Reading an OCI image layout (image specification 1.1), from a tar or from a directory on this machine.

index.json → manifest for this machine → config and layers, each in blobs/sha256 under its digest. Of every blob digest
and length are proven; layers also unpacked, against the config. The image's digest is that of its manifest.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol, cast

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.image_config import ImageConfig, read_config
from tenantry.engines.jail.layers import UNREADABLE, CappedArchive, apply_layer, budget_of, layer_reader
from tenantry.engines.jail.oci import (
    INDEX_TYPES,
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Manifest,
    choose,
    parse_index,
    parse_manifest,
    require_content,
    require_platform,
)
from tenantry.engines.jail.tree import Caps, TreeWriter, split_path
from tenantry.kit.strict_json import NotStrictError, parse_json

_MAX_MEMBERS: Final = 4096
_VERSION: Final = "1.0.0"
_CHUNK: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class OciImage:
    digest: str
    name: str
    env: Mapping[str, str]
    workdir: str


class _Files(Protocol):
    """The files of a layout."""

    def open(self, name: str) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """Give a regular file and its length; raises ImageInvalid `image_blob_missing`."""


def read_oci_layout(
    source: Path, *, writer: TreeWriter, caps: Caps, unpacked: Callable[[int], object] | None = None
) -> OciImage:
    """Unpack the one image of a layout that is for this machine; raises ImageInvalid, whose `code` says why not.

    `unpacked` is told how many layers are, after each.
    """
    told = unpacked or (lambda _: None)
    try:
        if source.is_dir():
            return _read(_DirectoryFiles(source), writer, caps, told)
        with (
            source.open("rb") as opened,
            CappedArchive.open(fileobj=opened, mode="r:", errorlevel=2) as archive,
        ):
            return _read(_TarFiles(archive, caps), writer, caps, told)
    except UNREADABLE as error:
        raise ImageInvalid("image_archive_malformed", f"not a readable image layout: {type(error).__name__}") from error


def _read(files: _Files, writer: TreeWriter, caps: Caps, told: Callable[[int], object]) -> OciImage:
    version = _json(_head(files, "oci-layout"))
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != _VERSION:
        raise ImageInvalid("image_archive_malformed", f"oci-layout: not an image layout of version {_VERSION}")
    found = choose(parse_index(_head(files, "index.json")), only=True)
    named = found
    if found.media_type in INDEX_TYPES:
        found = choose(parse_index(_document(files, found, MAX_MANIFEST)))
    if found.media_type in INDEX_TYPES:
        raise ImageInvalid("image_manifest_malformed", "an index below an index below the layout's")
    manifest = parse_manifest(_document(files, found, MAX_MANIFEST))
    config = read_config(_json(_document(files, manifest.config, MAX_CONFIG)))
    require_platform((config.os, config.architecture))
    _unpack(files, manifest, config, writer=writer, caps=caps, told=told)
    return OciImage(named.digest, named.name, config.env, config.workdir)


def _unpack(
    files: _Files,
    manifest: Manifest,
    config: ImageConfig,
    *,
    writer: TreeWriter,
    caps: Caps,
    told: Callable[[int], object],
) -> None:
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageInvalid("image_manifest_malformed", "as many layers as rootfs.diff_ids")
    if manifest.size_bytes > caps.bytes:
        raise ImageInvalid("image_too_large", f"the layers are larger than {caps.bytes} bytes")
    budget = budget_of(caps)
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True), 1):
        with files.open(_place(layer)) as (content, size):
            _prove(content, size, layer)
            content.seek(0)
            reader = layer_reader(content, budget, packing=layer.packing)
            apply_layer(reader, writer)
            if reader.finish() != diff_id:
                raise ImageInvalid("image_digest_mismatch", f"layer {layer.digest} is not what the config says")
        told(number)


def _prove(content: IO[bytes], size: int, descriptor: Descriptor) -> None:
    if size != descriptor.size:
        raise ImageInvalid("image_size_mismatch", f"{descriptor.digest} is not as long as was said")
    whole = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        whole.update(chunk)
    if f"sha256:{whole.hexdigest()}" != descriptor.digest:
        raise ImageInvalid("image_digest_mismatch", f"what is called {descriptor.digest} is something else")


def _place(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


def _document(files: _Files, descriptor: Descriptor, most: int) -> bytes:
    return require_content(_head(files, _place(descriptor), most), descriptor)


def _head(files: _Files, name: str, most: int = MAX_MANIFEST) -> bytes:
    with files.open(name) as (content, size):
        if size > most:
            raise ImageInvalid("image_manifest_malformed", f"{name} is larger than {most} bytes")
        return content.read(size)


def _json(raw: bytes) -> object:
    try:
        return cast("object", parse_json(raw))
    except NotStrictError as error:
        raise ImageInvalid("image_manifest_malformed", f"a document of the image cannot be read: {error}") from None


class _TarFiles:
    """Files of a tar; whatever it holds twice, or as a link, is refused before anything is read."""

    def __init__(self, archive: tarfile.TarFile, caps: Caps) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(archive):
            member.pax_headers = {}
            name = "/".join(split_path(member.name))
            if number > _MAX_MEMBERS or member.size > caps.bytes:
                raise ImageInvalid("image_archive_malformed", "too many or too large members")
            if member.isdir():
                continue
            if not member.isreg() or name in self._members:
                raise ImageInvalid("image_archive_malformed", f"{name[:100]!r} is a link, a device, or there twice")
            self._members[name] = member

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        member = self._members.get(name)
        content = self._archive.extractfile(member) if member is not None else None
        if member is None or content is None:
            raise _missing(name)
        with content:
            yield content, member.size


class _DirectoryFiles:
    """Files of a directory, opened through no link."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        *above, last = name.split("/")
        place = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in above:
                below = os.open(part, _DIRECTORY, dir_fd=place)
                os.close(place)
                place = below
            file = os.open(last, _FILE, dir_fd=place)
        except OSError:
            raise _missing(name) from None
        finally:
            os.close(place)
        with os.fdopen(file, "rb") as content:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise _missing(name)
            yield content, status.st_size


def _missing(name: str) -> ImageInvalid:
    return ImageInvalid("image_blob_missing", f"the layout lacks {name[:100]!r}, or it is no file")
