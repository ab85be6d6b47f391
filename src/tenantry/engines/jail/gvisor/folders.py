"""The files of a sandbox that its supervisor reaches: file systems in memory, lent to the container while it is made.

They are mounted below the home only until the runtime has taken hold of them, and held by descriptors after: when
supervisor and sandbox are gone the kernel frees them. What a supervisor was lending when it died `sweep` takes away.
"""

import ctypes
import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from tenantry.engines.jail.bubblewrap import RESOLVER as RESOLVER_TEXT
from tenantry.engines.jail.gvisor.container import RESOLVER, Shape
from tenantry.engines.jail.types import MIB

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Folders:
    """Made by `make`, which blocks a little; `lend_no_more` once the runtime has them, always `close`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._mounted: list[Path] = []
        self._held: dict[str, int] = {}
        self.paths: dict[str, Path] = {}

    @classmethod
    def make(cls, directory: Path, shape: Shape, *, uid: int) -> "Folders":
        """Make them below `directory`, owned by `uid`; raises OSError, leaving nothing, when the kernel refuses."""
        folders = cls(directory / secrets.token_hex(8))
        try:
            folders._make(shape, uid)
        except BaseException:
            folders.close()
            raise
        return folders

    def _make(self, shape: Shape, uid: int) -> None:
        self._place.mkdir(0o700)
        workspace = self._file_system("workspace", f"size={shape.disk_mib * MIB},mode=755,uid={uid},gid={uid}")
        _owned(workspace / "outputs", uid)
        self._hold("workspace", workspace)
        if not shape.given and not shape.networked:
            return
        given = self._file_system("given", f"size={shape.given_mib * MIB},mode=700")
        self._hold("given", given)
        for name in shape.given:
            _owned(given / name, uid, mode=0o700 if name == "secrets" else 0o755)
            self._hold(name, given / name)
        if shape.networked:
            self.paths[RESOLVER] = given / RESOLVER
            self.paths[RESOLVER].write_bytes(RESOLVER_TEXT)
            self.paths[RESOLVER].chmod(0o644)

    def opened(self, name: str) -> int:
        """Open one of them by a new descriptor, the caller's to close."""
        return os.open(".", _FOLDER, dir_fd=self._held[name])

    def device(self, name: str) -> int:
        """Tell the number of its file system, by which a runtime that was lent another is found out."""
        return os.fstat(self._held[name]).st_dev

    def lend_no_more(self) -> None:
        """Take them out of the host's sight; whoever holds them goes on. Raises OSError."""
        while self._mounted:
            path = self._mounted.pop()
            if _LIBC.umount2(os.fsencode(path), _MNT_DETACH) == -1:
                _raise(path)
            path.rmdir()
        with suppress(FileNotFoundError):
            self._place.rmdir()

    def close(self) -> None:
        """Give them up; idempotent."""
        with suppress(OSError):
            self.lend_no_more()
        while self._held:
            os.close(self._held.popitem()[1])

    def _file_system(self, name: str, options: str) -> Path:
        place = self._place / name
        place.mkdir(0o700)
        with ExitStack() as stack:
            stack.callback(place.rmdir)
            _mount(place, _MS_NOSUID | _MS_NODEV, options)
            stack.pop_all()
        self._mounted.append(place)
        return place

    def _hold(self, name: str, place: Path) -> None:
        self.paths[name] = place
        self._held[name] = os.open(place, _FOLDER)


def sweep(directory: Path) -> None:
    """Take away what a supervisor that died in the middle of making has left in its directory."""
    for place in directory.glob("*/*") if directory.is_dir() else ():
        _LIBC.umount2(os.fsencode(place), _MNT_DETACH)
        with suppress(OSError):
            place.rmdir()
    for place in (*directory.glob("*"), directory):
        with suppress(OSError):
            place.rmdir()


def _owned(place: Path, uid: int, *, mode: int = 0o755) -> None:
    place.mkdir()
    os.chown(place, uid, uid)
    place.chmod(mode)


def _mount(place: Path, flags: int, options: str) -> None:
    if _LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", ctypes.c_ulong(flags), options.encode()) == -1:
        _raise(place)


def _raise(place: Path) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), str(place))
