"""Reading what `docker save` writes: manifest.json, a config, and layers, each a tar (Docker image spec v1.2).

Nothing in it is believed: the config must hash to the name it is found under where that name is a digest, every
layer to the `rootfs.diff_ids` of the config. Layers are applied in order with their whiteouts. The image's digest is
that of its config, what docker calls the image id.
"""

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, BinaryIO, Final, cast

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.skeleton import MOUNTED, OUTPUTS
from tenantry.engines.jail.tree import Caps, TreeWriter, split_path

_MAX_JSON: Final = 8 << 20
_MAX_HEADER: Final = 1 << 20
_MAX_LAYERS: Final = 256
_GZIP: Final = b"\x1f\x8b"
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_RESERVED: Final = frozenset((*MOUNTED, OUTPUTS[0]))
_ENVELOPES: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_UNREADABLE: Final = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    RecursionError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class DockerImage:
    digest: str
    name: str
    env: Mapping[str, str]
    workdir: str


class _CappedHeader(tarfile.TarInfo):
    """A member whose extended headers are small: tarfile reads them into memory whole, whatever size they claim."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if (self.type in _ENVELOPES and self.size > _MAX_HEADER) or self.size < 0:
            raise ImageInvalid("image_archive_malformed", "an extended header larger than 1 MiB")
        if self.type == tarfile.GNUTYPE_SPARSE or self.sparse is not None:
            raise ImageInvalid("image_archive_malformed", "sparse members are not taken")
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]


class _HashedReader(BufferedIOBase):
    """Counts and hashes what passes; raises ImageInvalid `image_too_large` beyond `limit`."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._left = limit
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        chunk = self._source.read(1 << 20 if size is None or size < 0 else size)
        self._left -= len(chunk)
        if self._left < 0:
            raise ImageInvalid("image_too_large", "a layer unpacks to more than the cap")
        self._hash.update(chunk)
        return chunk

    def finish(self) -> str:
        """Read the rest and return the digest of the whole."""
        while self.read(1 << 20):
            pass
        return f"sha256:{self._hash.hexdigest()}"


def read_docker_archive(source: BinaryIO, *, writer: TreeWriter, caps: Caps) -> DockerImage:
    """Unpack a seekable archive through `writer`; raises ImageInvalid, whose `code` says which rule it breaks."""
    try:
        with tarfile.open(fileobj=source, mode="r:", tarinfo=_CappedHeader, errorlevel=2) as archive:
            members = _members(archive, caps)
            manifest = _json(archive, members, "manifest.json")
            if not isinstance(manifest, list) or len(manifest) != 1 or not isinstance(manifest[0], dict):
                raise ImageInvalid("image_archive_malformed", "manifest.json must list exactly one image")
            entry = manifest[0]
            name = str(entry.get("Config", ""))
            raw = _read(archive, members, name)
            digest = hashlib.sha256(raw).hexdigest()
            claimed = _HEX.search(name)
            if claimed and claimed.group() != digest:
                raise ImageInvalid("image_digest_mismatch", "the config is not what its name says")
            config = _parsed(raw)
            _apply_layers(archive, members, entry, config, writer=writer, caps=caps)
    except _UNREADABLE as error:
        raise ImageInvalid(
            "image_archive_malformed", f"not a readable image archive: {type(error).__name__}"
        ) from error
    tags = entry.get("RepoTags") or [""]
    settings = config.get("config") or {}
    return DockerImage(
        digest=f"sha256:{digest}",
        name=str(tags[0]) if isinstance(tags, list) else "",
        env=_environment(settings),
        workdir=str(settings.get("WorkingDir") or "/") if isinstance(settings, dict) else "/",
    )


def read_directory_archive(source: BinaryIO, *, writer: TreeWriter, caps: Caps) -> None:
    """Unpack a tar (gzip or not) of a root directory through `writer`; raises ImageInvalid as above."""
    try:
        _apply_layer(_layer_reader(source, caps), writer)
    except _UNREADABLE as error:
        raise ImageInvalid("image_archive_malformed", f"not a readable tar: {type(error).__name__}") from error


def _members(archive: tarfile.TarFile, caps: Caps) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if len(found) > _MAX_LAYERS * 8 or member.size > caps.bytes:
            raise ImageInvalid("image_archive_malformed", "too many or too large members")
        found[member.name.removeprefix("./")] = member
    return found


def _member(members: Mapping[str, tarfile.TarInfo], name: str) -> tarfile.TarInfo:
    """Find a member; older archives store a layer once and link the others to it."""
    for _ in range(4):
        member = members.get(name)
        if member is None or member.isreg():
            break
        base = "/".join(name.split("/")[:-1])
        name = "/".join(split_path(member.linkname.removeprefix("../") if member.issym() else member.linkname))
        name = name if name in members else f"{base}/{name}".strip("/")
    if member is None or not member.isreg():
        raise ImageInvalid("image_archive_malformed", f"the archive lacks {name[:100]!r}")
    return member


def _open(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    source = archive.extractfile(_member(members, name))
    if source is None:
        raise ImageInvalid("image_archive_malformed", f"the archive lacks {name[:100]!r}")
    return source


def _read(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    if _member(members, name).size > _MAX_JSON:
        raise ImageInvalid("image_archive_malformed", f"{name[:100]!r} is larger than 8 MiB")
    return _open(archive, members, name).read()


def _json(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> object:
    try:
        return json.loads(_read(archive, members, name))
    except RecursionError as error:
        raise ImageInvalid("image_archive_malformed", f"{name} nests too deep") from error


def _parsed(raw: bytes) -> dict[str, Any]:
    config = json.loads(raw)
    if not isinstance(config, dict):
        raise ImageInvalid("image_archive_malformed", "the config is no object")
    return config


def _environment(settings: object) -> dict[str, str]:
    lines = settings.get("Env") if isinstance(settings, dict) else None
    pairs = (line.partition("=") for line in lines or () if isinstance(line, str) and "\0" not in line)
    return {name: value for name, _, value in pairs if name}


def _apply_layers(
    archive: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    entry: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    writer: TreeWriter,
    caps: Caps,
) -> None:
    layers, rootfs = entry.get("Layers"), config.get("rootfs")
    expected = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not isinstance(expected, list) or len(layers) != len(expected):
        raise ImageInvalid("image_archive_malformed", "as many layers as rootfs.diff_ids")
    if len(layers) > _MAX_LAYERS:
        raise ImageInvalid("image_archive_malformed", f"more than {_MAX_LAYERS} layers")
    for name, diff_id in zip(layers, expected, strict=True):
        reader = _layer_reader(_open(archive, members, str(name)), caps)
        _apply_layer(reader, writer)
        if reader.finish() != diff_id:
            raise ImageInvalid("image_digest_mismatch", f"layer {str(name)[:100]!r} is not what the config says")


def _layer_reader(packed: IO[bytes], caps: Caps) -> _HashedReader:
    is_gzip = packed.read(2) == _GZIP
    packed.seek(0)
    return _HashedReader(cast("IO[bytes]", gzip.GzipFile(fileobj=packed)) if is_gzip else packed, caps.bytes * 2)


def _apply_layer(reader: _HashedReader, writer: TreeWriter) -> None:
    written: set[tuple[str, ...]] = set()
    opaque: list[tuple[str, ...]] = []
    with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", tarinfo=_CappedHeader, errorlevel=2) as layer:
        for member in layer:
            layer.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            parts = split_path(member.name)
            if parts and parts[0] in _RESERVED:
                continue
            if parts and parts[-1] == _OPAQUE:
                opaque.append(parts[:-1])
            elif parts and parts[-1].startswith(_WHITEOUT):
                _whiteout(parts, writer, written)
            else:
                _write(layer, member, parts, writer)
                written.update(parts[:depth] for depth in range(1, len(parts) + 1))
    for directory in opaque:
        writer.empty(directory, keep=frozenset(written))


def _whiteout(parts: tuple[str, ...], writer: TreeWriter, written: set[tuple[str, ...]]) -> None:
    hidden = parts[-1].removeprefix(_WHITEOUT)
    if hidden in {"", ".", ".."}:
        raise ImageInvalid("image_path_unsafe", "a whiteout of nothing")
    target = (*parts[:-1], hidden)
    if target not in written:  # it hides lower layers, never its own
        writer.remove(target)


def _write(layer: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...], writer: TreeWriter) -> None:
    """Write one member; devices, pipes and sockets are left out, an image has no use for them here."""
    if member.isdir():
        writer.directory(parts, member.mode)
    elif member.issym():
        writer.symlink(parts, member.linkname)
    elif member.islnk():
        writer.hardlink(parts, split_path(member.linkname))
    elif member.isreg():
        source = layer.extractfile(member)
        if source is not None:
            writer.file(
                parts, source=cast("BinaryIO", source), size=member.size, mode=member.mode, mtime=float(member.mtime)
            )
