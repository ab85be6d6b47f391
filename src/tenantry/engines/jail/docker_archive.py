"""Reading what `docker save` writes: manifest.json, a config, and layers, each a tar (Docker image spec v1.2).

Nothing in it is believed: the config must hash to the name it is found under where that name is a digest, every
layer to the `rootfs.diff_ids` of the config. Layers are applied in order with their whiteouts. The image's digest is
that of its config, what docker calls the image id.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Final

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.image_config import ImageConfig, read_config
from tenantry.engines.jail.layers import UNREADABLE, CappedArchive, apply_layer, budget_of, layer_reader
from tenantry.engines.jail.tree import Caps, TreeWriter, split_path

_MAX_JSON: Final = 8 << 20
MAX_LAYERS: Final = 256
_MAX_NAMES: Final = 8192
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class DockerImage:
    digest: str
    name: str
    env: Mapping[str, str]
    workdir: str


def read_docker_archive(source: BinaryIO, *, writer: TreeWriter, caps: Caps) -> DockerImage:
    """Unpack a seekable archive through `writer`; raises ImageInvalid, whose `code` says which rule it breaks."""
    try:
        with CappedArchive.open(fileobj=source, mode="r:", errorlevel=2) as archive:
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
            config = read_config(json.loads(raw))
            _apply_layers(archive, members, entry, config, writer=writer, caps=caps)
    except UNREADABLE as error:
        raise ImageInvalid(
            "image_archive_malformed", f"not a readable image archive: {type(error).__name__}"
        ) from error
    tags = entry.get("RepoTags") or [""]
    return DockerImage(
        digest=f"sha256:{digest}",
        name=str(tags[0]) if isinstance(tags, list) else "",
        env=config.env,
        workdir=config.workdir,
    )


def _members(archive: tarfile.TarFile, caps: Caps) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for number, member in enumerate(archive):
        member.pax_headers = {}
        if number > MAX_LAYERS * 8 or member.size > caps.bytes or len(member.name) + len(member.linkname) > _MAX_NAMES:
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


def _apply_layers(
    archive: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    entry: Mapping[str, Any],
    config: ImageConfig,
    *,
    writer: TreeWriter,
    caps: Caps,
) -> None:
    layers, expected = entry.get("Layers"), config.diff_ids
    if not isinstance(layers, list) or len(layers) != len(expected):
        raise ImageInvalid("image_archive_malformed", "as many layers as rootfs.diff_ids")
    if len(layers) > MAX_LAYERS:
        raise ImageInvalid("image_archive_malformed", f"more than {MAX_LAYERS} layers")
    budget = budget_of(caps)
    for name, diff_id in zip(layers, expected, strict=True):
        reader = layer_reader(_open(archive, members, str(name)), budget)
        apply_layer(reader, writer)
        if reader.finish() != diff_id:
            raise ImageInvalid("image_digest_mismatch", f"layer {str(name)[:100]!r} is not what the config says")
