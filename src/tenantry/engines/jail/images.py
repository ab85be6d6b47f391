"""A store of read-only root file systems, each in a directory named by its digest.

<root>/sha256/<hex>/image.json      name, env, workdir
<root>/sha256/<hex>/rootfs/         what a sandbox sees as /
<root>/.incoming/<random>/          being imported; renamed into place whole or not at all
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tenantry.engines.jail import host_image
from tenantry.engines.jail.directory_image import copy_directory, tree_digest
from tenantry.engines.jail.docker_archive import read_docker_archive
from tenantry.engines.jail.errors import ImageInvalid, ImageNotFound, ImageTooLarge
from tenantry.engines.jail.layers import read_directory_archive
from tenantry.engines.jail.oci_layout import read_oci_layout
from tenantry.engines.jail.skeleton import furnish_root
from tenantry.engines.jail.tree import Caps, TreeWriter, stored_bytes
from tenantry.engines.jail.types import ImageRoot

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StagedImage:
    """An image that is unpacked and not in the store yet; `bytes` is what its root takes (`stored_bytes`)."""

    digest: str
    bytes: int
    admit: Callable[[], ImageRoot]
    """Puts it into the store; blocking, a moment. Once, and before the block ends that gave it."""


class ImageStore:
    """Blocking: call it in a thread. Several processes may share one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._images = root / "sha256"
        self._incoming = root / ".incoming"
        for directory in (root, self._images, self._incoming):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sweep()

    def host(self) -> ImageRoot:
        """Make, if need be, and return the image of this machine's own programs."""
        manifest = host_image.host_manifest()
        digest = host_image.manifest_digest(manifest)
        if not self._place(digest).is_dir():
            with self._staging() as staging:
                host_image.build_host_root(staging / "rootfs", manifest)
                self._admit(staging, digest, name=host_image.NAME)
        return self.resolve(digest)

    def import_docker_archive(self, source: Path | BinaryIO, *, caps: Caps | None = None) -> ImageRoot:
        """Import what `docker save` wrote, from a path or a file that can be read and sought in.

        Raises ImageInvalid when it breaks a rule; then, as after a crash, nothing of it is kept. Retry is safe.
        """
        with self.staged_docker_archive(source, caps=caps) as image:
            return image.admit()

    def import_oci_layout(
        self,
        source: Path,
        *,
        name: str = "",
        caps: Caps | None = None,
        unpacked: Callable[[int], object] | None = None,
    ) -> ImageRoot:
        """Import an OCI image layout, a tar or a directory, under the digest in its index.json. Raises as above.

        `unpacked` is told how many layers are, after each.
        """
        with self.staged_oci_layout(source, name=name, caps=caps, unpacked=unpacked) as image:
            return image.admit()

    def import_directory_archive(self, source: Path, *, caps: Caps | None = None) -> ImageRoot:
        """Import a tar of a root directory; its digest is that of what was unpacked. Raises as above."""
        with self.staged_directory_archive(source, caps=caps) as image:
            return image.admit()

    @contextmanager
    def staged_docker_archive(self, source: Path | BinaryIO, *, caps: Caps | None = None) -> Iterator[StagedImage]:
        """Unpack, and give what may be admitted within the block: of anything else nothing outlives it.

        Raises as `import_docker_archive`, and ImageTooLarge where it takes more than `caps.stored_bytes`. The block may
        be entered and left in different threads.
        """
        bounds = caps or Caps()
        opening = source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source)
        with opening as opened, self._staging() as staging:
            with _writer(staging / "rootfs", bounds) as writer:
                image = read_docker_archive(opened, writer=writer, caps=bounds)
            yield self._staged(
                staging, bounds, digest=image.digest, name=image.name, env=image.env, workdir=image.workdir
            )

    @contextmanager
    def staged_oci_layout(
        self,
        source: Path,
        *,
        name: str = "",
        caps: Caps | None = None,
        unpacked: Callable[[int], object] | None = None,
    ) -> Iterator[StagedImage]:
        """Unpack a layout as above; `unpacked` as `import_oci_layout` has it."""
        bounds = caps or Caps()
        with self._staging() as staging:
            with _writer(staging / "rootfs", bounds) as writer:
                image = read_oci_layout(source, writer=writer, caps=bounds, unpacked=unpacked)
            yield self._staged(
                staging, bounds, digest=image.digest, name=name or image.name, env=image.env, workdir=image.workdir
            )

    @contextmanager
    def staged_directory_archive(self, source: Path, *, caps: Caps | None = None) -> Iterator[StagedImage]:
        """Unpack a tar of a root directory as above."""
        bounds = caps or Caps()
        with self._staging() as staging:
            with _writer(staging / "rootfs", bounds) as writer, source.open("rb") as opened:
                read_directory_archive(opened, writer=writer, caps=bounds)
            yield self._staged(staging, bounds)

    def import_directory(self, path: Path, *, name: str = "", caps: Caps | None = None) -> ImageRoot:
        """Copy a root file system from this machine; its digest is that of the copy. Raises as above."""
        bounds = caps or Caps()
        with self._staging() as staging:
            with _writer(staging / "rootfs", bounds) as writer:
                copy_directory(path, writer=writer)
            return self._staged(staging, bounds, name=name).admit()

    def restore(
        self, digest: str, source: BinaryIO, *, about: Mapping[str, object], caps: Caps | None = None
    ) -> ImageRoot:
        """Unpack what `archive_of` made of an image's root under the digest it had; raises as above.

        That digest may be one of a docker image's config, which the root does not tell: it is taken as it is.
        """
        if not _DIGEST.fullmatch(digest):
            raise ImageInvalid("image_digest_malformed", "an image is named by its SHA-256")
        if self._place(digest).is_dir():
            return self.resolve(digest)
        env, workdir = about.get("env"), about.get("workdir")
        bounds = caps or Caps()
        with self._staging() as staging:
            with _writer(staging / "rootfs", bounds) as writer:
                read_directory_archive(source, writer=writer, caps=bounds)
            return self._staged(
                staging,
                bounds,
                digest=digest,
                name=str(about.get("name", "")),
                env={str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else {},
                workdir=str(workdir or "/"),
            ).admit()

    def resolve(self, digest: str) -> ImageRoot:
        """Return the image of that digest; raises ImageNotFound, for a malformed one too."""
        place = self._place(digest)
        try:
            record = json.loads((place / "image.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise ImageNotFound(digest) from None
        return _image(place, digest, record)

    def list(self) -> tuple[ImageRoot, ...]:
        """Return every image, by digest."""
        found = []
        for entry in sorted(self._images.iterdir()):
            with contextlib.suppress(ImageNotFound):
                found.append(self.resolve(f"sha256:{entry.name}"))
        return tuple(found)

    def remove(self, digest: str) -> None:
        """Remove an image; raises ImageNotFound. Sandboxes that run from it lose their files, so stop them first."""
        place = self._place(digest)
        if not place.is_dir():
            raise ImageNotFound(digest)
        with self._staging() as staging, contextlib.suppress(FileNotFoundError):
            place.rename(staging / "removed")

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """Give an empty directory for what is being fetched; nothing of it outlives this block, or this process."""
        with self._staging() as staging:
            (staging / "layout").mkdir(mode=0o700)
            yield staging / "layout"

    def sweep(self) -> None:
        """Delete what imports and downloads that died left behind; those under way stay. Safe to repeat."""
        for entry in [*self._incoming.glob("*")]:
            with contextlib.suppress(OSError):
                lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    with self._alone():
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry, ignore_errors=True)
                finally:
                    os.close(lock)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ImageNotFound(digest[:80])
        return self._images / digest.removeprefix("sha256:")

    def _staged(
        self,
        staging: Path,
        caps: Caps,
        *,
        digest: str = "",
        name: str = "",
        env: Mapping[str, str] | None = None,
        workdir: str = "/",
    ) -> StagedImage:
        """Furnish and measure what was unpacked; without a digest it is named by its content."""
        root = staging / "rootfs"
        furnish_root(root)
        size = stored_bytes(root)
        if caps.stored_bytes is not None and size > caps.stored_bytes:
            raise ImageTooLarge(size, most=caps.stored_bytes)
        named = digest or tree_digest(root)

        def admit() -> ImageRoot:
            self._admit(staging, named, name=_tag(name), env=env, workdir=workdir)
            return self.resolve(named)

        return StagedImage(named, size, admit)

    def _admit(
        self, staging: Path, digest: str, *, name: str, env: Mapping[str, str] | None = None, workdir: str = "/"
    ) -> None:
        record = {"name": name, "env": dict(env or {}), "workdir": workdir}
        (staging / "image.json").write_text(json.dumps(record))
        with contextlib.suppress(FileExistsError, OSError):  # somebody else was first: theirs has the same content
            staging.rename(self._place(digest))
        if not self._place(digest).is_dir():
            raise ImageNotFound(digest)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """Give an empty directory that is deleted afterwards if it is still there, or by the next process if we die."""
        staging = self._incoming / secrets.token_hex(8)
        with self._alone():
            staging.mkdir(mode=0o700)
            lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            (staging / "rootfs").mkdir()
            (staging / "rootfs").chmod(0o755)  # whatever the umask is: it is another uid's root
            yield staging
        finally:
            os.close(lock)
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a sweep from a directory that is made and not locked yet."""
        lock = os.open(self._incoming, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextmanager
def _writer(root: Path, caps: Caps) -> Iterator[TreeWriter]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield TreeWriter(descriptor, caps)
    finally:
        os.close(descriptor)


def _tag(name: str) -> str:
    """Keep a name for people; `host` is not to be had, it is what the store itself makes."""
    return f"imported:{host_image.NAME}" if name == host_image.NAME else name[:256]


def _image(place: Path, digest: str, record: Mapping[str, object]) -> ImageRoot:
    env = record.get("env")
    name = str(record.get("name", ""))
    binds = host_image.host_binds(host_image.host_manifest()) if name == host_image.NAME else ()
    return ImageRoot(
        path=place / "rootfs",
        digest=digest,
        name=name,
        env={str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else {},
        workdir=str(record.get("workdir", "/")),
        binds=binds,
    )
