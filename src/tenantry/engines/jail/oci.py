"""Documents of the OCI image specification 1.1 and of Docker's schema 2: indexes, manifests, descriptors.

Whatever a document says of another, digest and length, is proven before the other is read. A text that is an index and
a manifest at once is refused, as either reader would see something else in it (CVE-2021-41190).
"""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.kit.strict_json import NotStrictError, parse_json

MANIFEST_TYPES: Final = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
INDEX_TYPES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MAX_MANIFEST: Final = 4 << 20
MAX_CONFIG: Final = 8 << 20
Packing = Literal["none", "gzip", "zstd"]
_PACKINGS: Final[Mapping[str, Packing]] = {
    "application/vnd.oci.image.layer.v1.tar": "none",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}
_MAX_LAYERS: Final = 256
_MAX_IMAGES: Final = 256
_SCHEMA: Final = 2
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says of another. `platform` is operating system and architecture, where it is told."""

    media_type: str
    digest: str
    size: int
    platform: tuple[str, str] | None = None
    name: str = ""

    @property
    def packing(self) -> Packing:
        """Of a layer."""
        return _PACKINGS[self.media_type]


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def size_bytes(self) -> int:
        """All that is to be fetched of it."""
        return self.config.size + sum(layer.size for layer in self.layers)


def machine_platform() -> tuple[str, str]:
    machine = platform.machine()
    return "linux", _ARCHITECTURES.get(machine, machine)


def digest_of(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def require_digest(text: object) -> str:
    """Give a digest as it is; raises ImageInvalid `image_digest_malformed` for anything but a SHA-256."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ImageInvalid("image_digest_malformed", f"no SHA-256 in lower-case hex: {str(text)[:100]!r}")
    return text


def require_content(raw: bytes, descriptor: Descriptor) -> bytes:
    """Give content that is what its descriptor says; else raises ImageInvalid."""
    if len(raw) != descriptor.size:
        raise ImageInvalid("image_size_mismatch", f"{descriptor.digest} is not as long as was said")
    if digest_of(raw) != descriptor.digest:
        raise ImageInvalid("image_digest_mismatch", f"what is called {descriptor.digest} is something else")
    return raw


def parse_index(raw: bytes) -> tuple[Descriptor, ...]:
    """Read an index (a manifest list); raises ImageInvalid."""
    value = _document(raw, INDEX_TYPES)
    listed = value.get("manifests")
    if not isinstance(listed, list) or {"layers", "config", "rootfs"} & value.keys():
        raise _malformed("an index must list manifests and be nothing else")
    if len(listed) > _MAX_IMAGES:
        raise _malformed(f"an index of more than {_MAX_IMAGES} manifests")
    return tuple(_descriptor(each) for each in listed)


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest; raises ImageInvalid, for what cannot be unpacked here too."""
    value = _document(raw, MANIFEST_TYPES)
    layers = value.get("layers")
    if not isinstance(layers, list) or {"manifests", "rootfs"} & value.keys():
        raise _malformed("a manifest must list layers and be nothing else")
    if len(layers) > _MAX_LAYERS:
        raise _malformed(f"more than {_MAX_LAYERS} layers")
    manifest = Manifest(_descriptor(value.get("config")), tuple(_descriptor(each) for each in layers))
    if manifest.config.size > MAX_CONFIG:
        raise _malformed("the config is larger than 8 MiB")
    for layer in manifest.layers:
        if layer.media_type not in _PACKINGS:
            raise _unsupported_layer(layer.media_type)
    return manifest


def choose(listed: Sequence[Descriptor], *, only: bool = False) -> Descriptor:
    """Take the manifest for this machine, or an index, whichever stands first.

    `only`: refuse a choice, which nobody has been asked for. Raises ImageInvalid `image_platform_unsupported`,
    `image_ambiguous`.
    """
    wanted = machine_platform()
    images = [each for each in listed if each.media_type in MANIFEST_TYPES | INDEX_TYPES]
    fitting = [each for each in images if each.platform in (None, wanted)]
    if not fitting:
        there = ", ".join(sorted({"/".join(each.platform) for each in images if each.platform})) or "none"
        raise _unsupported_platform(there[:200])
    if only and len({each.digest for each in fitting}) > 1:
        raise ImageInvalid("image_ambiguous", "the layout holds several images: export the one that is meant alone")
    return fitting[0]


def require_platform(found: tuple[str, str]) -> None:
    """Refuse an image that says it is for another machine."""
    if any(found) and found != machine_platform():
        raise _unsupported_platform("/".join(found)[:200])


def _document(raw: bytes, kinds: frozenset[str]) -> dict[str, Any]:
    try:
        value = parse_json(raw)
    except NotStrictError as error:
        raise _malformed(str(error)) from None
    if not isinstance(value, dict) or value.get("schemaVersion") != _SCHEMA:
        raise _malformed("no object of schemaVersion 2")
    kind = value.get("mediaType", next(iter(kinds)))
    if not isinstance(kind, str) or kind not in kinds:
        raise _malformed(f"its media type is {str(kind)[:100]!r}")
    return value


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict):
        raise _malformed("a descriptor is no object")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str) or type(size) is not int or size < 0:
        raise _malformed("a descriptor lacks mediaType or size")
    told = value.get("platform")
    notes = value.get("annotations")
    return Descriptor(
        media_type=media_type[:200],
        digest=require_digest(value.get("digest")),
        size=size,
        platform=(str(told.get("os")), str(told.get("architecture"))) if isinstance(told, dict) else None,
        name=str(notes.get(_NAME, ""))[:256] if isinstance(notes, dict) else "",
    )


def _malformed(why: str) -> ImageInvalid:
    return ImageInvalid("image_manifest_malformed", f"a document of the image cannot be read: {why}")


def _unsupported_platform(there: str) -> ImageInvalid:
    wanted = "/".join(machine_platform())
    return ImageInvalid("image_platform_unsupported", f"there is no image for {wanted}, only for: {there}")


def _unsupported_layer(media_type: str) -> ImageInvalid:
    remedy = "build it with gzip or zstd layers (docker buildx build --output type=registry,compression=zstd)"
    if "foreign" in media_type or "nondistributable" in media_type:
        remedy = "build it without layers that lie elsewhere"
    return ImageInvalid("image_layer_unsupported", f"a layer is of the kind {media_type!r}: {remedy}")
