"""A place in the launcher's own mount namespace that any uid can walk to; part of that program (launcher.py).

It needs the standard library alone.
"""

import contextlib
import ctypes
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantry.engines.jail import forks
else:  # the launcher has loaded it by its place
    import forks

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
_MNT_DETACH = 2
_PLACES = ("/mnt", "/srv", "/media", "/tmp", "/opt")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    made = forks.LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    forks.checked(made, target)


class Shelf:
    """`place` is the directory it covers, empty before `make_private`."""

    def __init__(self) -> None:
        self.place = ""
        self._under, self._exposures = -1, 0

    def make_private(self) -> None:
        """Take a mount namespace of our own, with a place in it any uid can walk to."""
        forks.checked(forks.LIBC.unshare(_CLONE_NEWNS))
        _mount("none", "/", "", _MS_REC | _MS_SLAVE)
        for place in _PLACES:
            if os.path.isdir(place) and not os.path.islink(place):
                self.place = place
                self._under = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0711,size=1m")
                return
        raise FileNotFoundError(2, f"none of {' '.join(_PLACES)} is a directory we may shadow")

    def bind(self, path: str) -> str:
        """Bind `path` read-only below the shelf, also when the shelf hides it from everybody else here."""
        if path.startswith(f"{self.place}/"):
            source = os.open(path.removeprefix(f"{self.place}/"), os.O_PATH | os.O_CLOEXEC, dir_fd=self._under)
        else:
            source = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            self._exposures += 1
            above = f"{self.place}/{self._exposures}"
            os.mkdir(above, 0o711)
            target = f"{above}/{os.path.basename(path)}"
            if stat.S_ISDIR(os.fstat(source).st_mode):
                os.mkdir(target, 0o755)
            else:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            _mount(f"/proc/self/fd/{source}", target, "", _MS_BIND)
            _mount("none", target, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        finally:
            os.close(source)
        return target

    def release(self, target: str) -> None:
        """End what `bind` gave; whoever has mounted it further keeps that."""
        forks.LIBC.umount2(target.encode(), _MNT_DETACH)
        with contextlib.suppress(OSError):
            (os.rmdir if os.path.isdir(target) else os.unlink)(target)
            os.rmdir(os.path.dirname(target))
