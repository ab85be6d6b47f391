"""The `host` image: this machine's own programs, read-only, for machines without a registry.

It shows /usr, the /lib* /bin /sbin that belong to it, certificates, and what dynamic linking and alternatives need of
/etc; nothing else of the host. Its digest is that of its manifest: which paths are shown, where links among them point,
and the operating system's release, so two machines of one release agree and an upgrade makes another image.
"""

import hashlib
import json
from pathlib import Path
from typing import Final

from tenantry.engines.jail.skeleton import furnish_root
from tenantry.engines.jail.types import Bind

NAME: Final = "host"
_TREES: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OF_ETC: Final = ("ssl", "pki", "alternatives", "ld.so.cache")
#: Where the self-test shows the interpreter that runs it; empty otherwise.
PYTHON_PLACE: Final = "opt/tenantry-python"
_RELEASES: Final = (Path("/etc/os-release"), Path("/usr/lib/os-release"))


def host_manifest() -> dict[str, object]:
    """Describe what the image shows, as plain values in a canonical order."""
    entries: list[dict[str, str]] = []
    for text in (*_TREES, *(f"/etc/{name}" for name in _OF_ETC)):
        path = Path(text)
        if path.is_symlink() and text in _TREES:
            entries.append({"path": text, "kind": "link", "target": str(path.readlink())})
        elif path.is_dir():
            entries.append({"path": text, "kind": "directory"})
        elif path.is_file():
            entries.append({"path": text, "kind": "file"})
    release = next((path.read_text() for path in _RELEASES if path.is_file()), "")
    return {"entries": entries, "release": release}


def manifest_digest(manifest: dict[str, object]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def build_host_root(root: Path, manifest: dict[str, object]) -> None:
    """Make the links and mount points below an empty `root`."""
    furnish_root(root)
    (root / PYTHON_PLACE).mkdir(mode=0o755, parents=True)
    for entry in _entries(manifest):
        place = root / entry["path"].lstrip("/")
        if entry["kind"] == "link":
            place.symlink_to(entry["target"])
        elif entry["kind"] == "directory":
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            place.touch()
    for place in root.rglob("*"):  # whatever the umask is: all of it is for another uid
        if not place.is_symlink():
            place.chmod(0o755 if place.is_dir() else 0o644)


def host_binds(manifest: dict[str, object]) -> tuple[Bind, ...]:
    return tuple(Bind(Path(entry["path"]), entry["path"]) for entry in _entries(manifest) if entry["kind"] != "link")


def _entries(manifest: dict[str, object]) -> list[dict[str, str]]:
    entries = manifest["entries"]
    return entries if isinstance(entries, list) else []
