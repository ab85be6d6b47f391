"""The certificates that a sandbox trusts: those of its image, and one more."""

import os
import stat
from contextlib import ExitStack
from posixpath import basename
from typing import Final

from tenantry.engines.jail.identity import filesystem_identity
from tenantry.engines.jail.types import CERTIFICATES, MIB

MOST_CERTIFICATES: Final = 4 * MIB
#: Where distributions keep all of them in one file; the first that is one counts.
_BUNDLES: Final = (
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "var/lib/ca-certificates/ca-bundle.pem",
    "etc/ssl/cert.pem",
)


def write_certificates(root: str, folder: str, authority: bytes, *, uid: int | None) -> None:
    """Write CERTIFICATES into `folder`, the sandbox's own: with the rights of `uid`, following no link of an image.

    `root` is where its image is seen.
    """
    with ExitStack() as stack:
        places = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (root, folder)]
        for place in places:
            stack.callback(os.close, place)
        stack.enter_context(filesystem_identity(uid))
        own = next(filter(None, (_read(places[0], path) for path in _BUNDLES)), b"")
        joint = b"" if not own or own.endswith(b"\n") else b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(basename(CERTIFICATES), flags, 0o444, dir_fd=places[1]), "wb") as target:
            os.fchmod(target.fileno(), 0o444)
            target.write(own + joint + authority)


def _read(root: int, path: str) -> bytes:
    """Read a regular file that no link is on the way to; nothing where there is none, or one too large."""
    with ExitStack() as stack:
        try:
            place = root
            *folders, name = path.split("/")
            for folder in folders:
                place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
                stack.callback(os.close, place)
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            stack.callback(os.close, file)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_CERTIFICATES:
                return b""
            with os.fdopen(os.dup(file), "rb") as source:
                return source.read(MOST_CERTIFICATES)
        except OSError:
            return b""
