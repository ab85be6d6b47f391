"""What every root needs before it is read-only: places to mount on, and the few files of /etc a program looks for."""

import contextlib
import shutil
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import ImageInvalid

#: Mounted over at every start, so whatever an image has there is never seen and never kept.
MOUNTED: Final = ("proc", "dev", "sys", "tmp", "run", "workspace", "inputs")
#: A link into /workspace: one size bounds both.
OUTPUTS: Final = ("outputs", "workspace/outputs")
MOST_ACCOUNTS: Final = 1 << 20
_SANDBOX_LINE: Final = "sandbox:x:1000:1000:sandbox:/workspace:/bin/sh\n"
_GROUP_LINE: Final = "sandbox:x:1000:\n"
_FILES: Final = {
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
}


def furnish_root(root: Path) -> None:
    """Make mount points and /etc files below `root`, replacing whatever an image put there, following no link.

    Raises ImageInvalid `image_file_too_large` for accounts of more than 1 MiB.
    Their modes do not depend on the umask: programs of another uid use them.
    """
    for name in MOUNTED:
        _clear(root / name)
        (root / name).mkdir()
        (root / name).chmod(0o755)
    _clear(root / OUTPUTS[0])
    (root / OUTPUTS[0]).symlink_to(OUTPUTS[1])
    etc = _real_directory(root / "etc")
    for name, text in _FILES.items():
        _clear(etc / name)
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)
    for name, line in (("passwd", _SANDBOX_LINE), ("group", _GROUP_LINE)):
        _append_account(etc / name, line)
    var = _real_directory(root / "var")
    _clear(var / "tmp")
    (var / "tmp").symlink_to("../tmp")


def _append_account(path: Path, line: str) -> None:
    """Keep an image's accounts and add ours, unless number 1000 is taken, which then names us as well."""
    lines = _read(path).splitlines()
    taken = {number for entry in lines for number in entry.split(":", 3)[2:3] if number in {"0", "1000"}}
    if "1000" not in taken:
        lines.append(line.rstrip("\n"))
    if "0" not in taken:
        lines.insert(0, "root:x:0:0:root:/root:/bin/sh" if path.name == "passwd" else "root:x:0:")
    _clear(path)
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    path.chmod(0o644)


def _read(path: Path) -> str:
    """Read a regular file, nothing where there is none; it is an image's and as large as it likes, so only so much."""
    if path.is_symlink() or not path.is_file():
        return ""
    if path.stat().st_size > MOST_ACCOUNTS:
        raise ImageInvalid(
            "image_file_too_large", f"etc/{path.name} of the image is larger than 1 MiB: leave accounts out of it"
        )
    return path.read_text(errors="surrogateescape")


def _real_directory(path: Path) -> Path:
    if path.is_symlink() or not path.is_dir():
        _clear(path)
        path.mkdir()
        path.chmod(0o755)
    return path


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
