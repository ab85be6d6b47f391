"""Images for tests, as OCI and Docker write them: made of bytes, kept in a layout, pushed to a registry."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from tests.zstd_library import zstd

from tenantry.engines.jail.oci import machine_platform

OCI: Final = "application/vnd.oci.image"
MANIFEST: Final = f"{OCI}.manifest.v1+json"
INDEX: Final = f"{OCI}.index.v1+json"
TAR: Final = f"{OCI}.layer.v1.tar"
GZIP: Final = f"{TAR}+gzip"
ZSTD: Final = f"{TAR}+zstd"
DOCKER: Final = "application/vnd.docker"
DOCKER_MANIFEST: Final = f"{DOCKER}.distribution.manifest.v2+json"
DOCKER_LIST: Final = f"{DOCKER}.distribution.manifest.list.v2+json"
DOCKER_GZIP: Final = f"{DOCKER}.image.rootfs.diff.tar.gzip"
DOCKER_ZSTD: Final = f"{DOCKER}.image.rootfs.diff.tar.zstd"
DOCKER_CONFIG: Final = f"{DOCKER}.container.image.v1+json"

Document = dict[str, Any]
Pack = Callable[[bytes], bytes]
PACKINGS: Final[Mapping[str, tuple[str, str, Pack]]] = {
    "none": (TAR, f"{DOCKER}.image.rootfs.diff.tar", bytes),
    "gzip": (GZIP, DOCKER_GZIP, lambda raw: gzip.compress(raw, mtime=0)),
    "zstd": (ZSTD, DOCKER_ZSTD, zstd.compress),
}
"""Media types of layers, as OCI and as Docker call them, and how they are packed."""


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files, the same for the same files."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


def descriptor(content: bytes, media_type: str, **more: object) -> Document:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}


@dataclass
class Made:
    """Documents and parts by digest; `top` is what a tag would lead to."""

    top: bytes
    top_type: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest(self.top)

    def put(self, content: bytes) -> bytes:
        self.blobs[digest(content)] = content
        return content


def make_image(
    *layers: bytes,
    docker: bool = False,
    packing: str = "gzip",
    pack: Pack | None = None,
    platform: tuple[str, str] | None = None,
    changes: Mapping[str, object] | None = None,
) -> Made:
    """An image of these layers; `changes` go into its manifest, `pack` packs otherwise than `packing` does."""
    made = Made(b"", DOCKER_MANIFEST if docker else MANIFEST)
    system, architecture = platform or machine_platform()
    config = made.put(
        json.dumps(
            {
                "os": system,
                "architecture": architecture,
                "config": {"Env": ["FROM_IMAGE=yes"], "WorkingDir": "/"},
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            }
        ).encode()
    )
    of_oci, of_docker, as_said = PACKINGS[packing]
    kind = of_docker if docker else of_oci
    parts = [made.put((pack or as_said)(layer)) for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": made.top_type,
        "config": descriptor(config, DOCKER_CONFIG if docker else f"{OCI}.config.v1+json"),
        "layers": [descriptor(part, kind) for part in parts],
        **(changes or {}),
    }
    made.top = json.dumps(manifest).encode()
    made.manifests[made.digest] = (made.top, made.top_type)
    return made


def make_index(images: Sequence[tuple[Made, tuple[str, str]]], *, docker: bool = False) -> Made:
    """An index of images, each with the platform it is said to be for."""
    kind = DOCKER_LIST if docker else INDEX
    listed = [
        descriptor(image.top, image.top_type, platform={"os": platform[0], "architecture": platform[1]})
        for image, platform in images
    ]
    top = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": listed}).encode()
    made = Made(top, kind)
    for image, _ in images:
        made.blobs |= image.blobs
        made.manifests |= image.manifests
    made.manifests[made.digest] = (top, kind)
    return made


def layout_files(made: Made, **index: object) -> dict[str, bytes]:
    """The files of a layout of one image; `index` changes index.json."""
    listed = {"schemaVersion": 2, "manifests": [descriptor(made.top, made.top_type)], **index}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(listed).encode()}
    for content in (*made.blobs.values(), *(raw for raw, _ in made.manifests.values())):
        files[f"blobs/{digest(content).replace(':', '/')}"] = content
    return files


def write_layout(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


def push(registry: str, repository: str, made: Made, *tags: str, headers: Mapping[str, str] | None = None) -> None:
    """Push as the distribution specification has it: parts first, then what names them."""
    with httpx.Client(base_url=f"{registry}/v2/{repository}", headers=headers, trust_env=False) as client:
        for content in made.blobs.values():
            begun = client.post("/blobs/uploads/")
            assert begun.status_code == 202, begun.text
            place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest(content)})
            done = client.put(place, content=content, headers={"Content-Type": "application/octet-stream"})
            assert done.status_code == 201, done.text
        _push_manifests(client, made, tags)


def _push_manifests(client: httpx.Client, made: Made, tags: Iterable[str]) -> None:
    for name, (raw, kind) in made.manifests.items():
        done = client.put(f"/manifests/{name}", content=raw, headers={"Content-Type": kind})
        assert done.status_code == 201, done.text
    for tag in tags:
        done = client.put(f"/manifests/{tag}", content=made.top, headers={"Content-Type": made.top_type})
        assert done.status_code == 201, done.text
