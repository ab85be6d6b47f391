"""Image archives made to write outside of the image, to bring in what no image may have, or never to end."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tenantry.engines.jail.errors import ImageInvalid
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.tree import Caps

Entry = tuple[str, bytes, bytes | str]  # path, type of tarfile, content or target
_FILE, _DIR, _LINK, _HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
_PLACE: Final = "@"  # stands for a directory of the host that nothing may touch
_CAPS: Final = Caps(bytes=1 << 20, files=40)


def _evil(path: str) -> list[Entry]:
    return [(path, _FILE, b"evil")]


#: Archives of one layer that must be refused whole.
_REFUSED: Final[dict[str, list[Entry]]] = {
    "climbing_path": _evil("../x"),
    "climbing_path_inside": _evil("a/../../x"),
    "path_with_a_parent": _evil("a/../b"),
    "absolute_path": _evil("/etc/passwd"),
    "deep_path": _evil("x/" * 200 + "y"),
    "through_a_link_out": [("d", _LINK, _PLACE), *_evil("d/x")],
    "through_a_link_inside": [("e", _DIR, b""), ("d", _LINK, "e"), *_evil("d/x")],
    "through_a_chain_of_links": [("e", _LINK, _PLACE), ("d", _LINK, "e"), *_evil("d/x")],
    "through_a_file": [("d", _FILE, b""), *_evil("d/x")],
    "link_to_the_parent": [("l", _LINK, "..")],
    "link_far_up": [("l", _LINK, "../../../etc")],
    "link_up_from_below": [("l", _LINK, "a/b/../../../x")],
    "hard_link_up": [("h", _HARD, "../../secret")],
    "hard_link_out": [("h", _HARD, f"{_PLACE}/secret")],
    "hard_link_to_nothing": [("h", _HARD, "absent")],
    "hard_link_to_a_directory": [("d", _DIR, b""), ("h", _HARD, "d")],
    "hard_link_through_a_link": [("l", _LINK, _PLACE), ("h", _HARD, "l/secret")],
    "hard_link_to_a_link": [("l", _LINK, f"{_PLACE}/secret"), ("h", _HARD, "l")],
    "hard_link_to_itself": [("h", _HARD, "h")],
    "whiteout_of_the_directory": [("e/.wh..", _FILE, b"")],
    "whiteout_of_the_parent": [("e/.wh...", _FILE, b"")],
    "whiteout_of_nothing": [("e/.wh.", _FILE, b"")],
    "many_files": [(f"f{number}", _FILE, b"") for number in range(60)],
    "zip_bomb": [("a", _FILE, bytes(4 << 20))],
}
_CASES_OF_TAKEN: Final = {
    "devices": "left out", "pipes": "left out", "setuid_bits": "stripped", "setgid_bits": "stripped",
    "file_over_a_link": "the link is replaced, not followed", "whiteout_of_a_link": "the link goes, not its target",
    "mount_points_as_links": "made anew", "accounts_as_a_link": "made anew",
}  # fmt: skip
_BROKEN: Final = ("cut_in_the_manifest", "cut_in_a_layer", "empty", "wrong_layer_digest", "wrong_config_digest",
                  "padding_bomb", "giant_header", "header_without_end")  # fmt: skip
CASES: Final = (
    *(Case("archives", name, "refused, nothing kept") for name in (*_REFUSED, *_BROKEN)),
    *(Case("archives", name, expected) for name, expected in _CASES_OF_TAKEN.items()),
)


def try_archives() -> list[tuple[str, Verdict]]:
    """Import each in a store of its own that is gone afterwards; blocking, some tenths of a second."""
    with tempfile.TemporaryDirectory(prefix="tenantry-selftest-") as name:
        place = Path(name)
        (place / "host").mkdir()
        (place / "host/secret").write_text("secret")
        store = ImageStore(place / "images")
        found = [*_refusals(store, place), *_broken_ones(store, place), *_taken(store, place / "host")]
        return [(f"archives.{case}", verdict) for case, verdict in found]


def archive_of(*layers: bytes, ids: Sequence[str] = (), config: str = "", packed: bool = False) -> bytes:
    """Make what `docker save` would write of these layers; `ids` and `config` tell lies about them."""
    digests = ids or [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    body = json.dumps({"config": {}, "rootfs": {"type": "layers", "diff_ids": digests}}).encode()
    name = config or f"{hashlib.sha256(body).hexdigest()}.json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": ["tool:1"], "Layers": names}]).encode()
    files: list[Entry] = [("manifest.json", _FILE, manifest), (name, _FILE, body)]
    files += [(p, _FILE, gzip.compress(c, 1) if packed else c) for p, c in zip(names, layers, strict=True)]
    return tar_of(files)


def tar_of(entries: Sequence[Entry], *, mode: int = 0o755) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path, kind, content in entries:
            member = tarfile.TarInfo(path)
            member.type, member.mode = kind, mode
            if isinstance(content, str):
                member.linkname = content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
    return held.getvalue()


def _refused(store: ImageStore, place: Path, archive: bytes) -> Verdict:
    """See an archive refused with nothing of it kept, inside the store or out."""
    try:
        store.import_docker_archive(io.BytesIO(archive), caps=_CAPS)
    except ImageInvalid as error:
        kept = [*(place / "images/.incoming").iterdir(), *(place / "images/sha256").iterdir()]
        return not kept and not _strangers(place / "host"), error.code
    _strangers(place / "host")
    for image in store.list():
        store.remove(image.digest)
    return False, "it was taken"


def _strangers(host: Path) -> int:
    """Count what has come to lie in the host's directory, and take it away again."""
    found = [path for path in host.iterdir() if path.name != "secret"]
    for path in found:
        path.unlink()
    return len(found)


def _refusals(store: ImageStore, place: Path) -> Iterator[tuple[str, Verdict]]:
    for name, entries in _REFUSED.items():
        told = [(p, k, c.replace(_PLACE, str(place / "host")) if isinstance(c, str) else c) for p, k, c in entries]
        yield name, _refused(store, place, archive_of(tar_of(told), packed=name == "zip_bomb"))


def _broken_ones(store: ImageStore, place: Path) -> Iterator[tuple[str, Verdict]]:
    plain = tar_of(_evil("a"))
    whole = archive_of(tar_of([("a", _FILE, b"1" * 5000)]))
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 20
    giant = header.tobuf() + b"2097152 comment=" + b"x" * ((2 << 20) - 17) + b"\n" + plain
    header.size = 1 << 40
    archives = {
        "cut_in_the_manifest": whole[:600],
        "cut_in_a_layer": whole[: len(whole) // 2],
        "empty": b"",
        "wrong_layer_digest": archive_of(plain, ids=["sha256:" + "0" * 64]),
        "wrong_config_digest": archive_of(plain, config="0" * 64 + ".json"),
        "padding_bomb": archive_of(tar_of([]) + bytes(8 << 20), packed=True),
        "giant_header": archive_of(giant, packed=True),
        "header_without_end": archive_of(header.tobuf() + bytes(1024)),
    }
    for name, archive in archives.items():
        yield name, _refused(store, place, archive)


def _taken(store: ImageStore, host: Path) -> Iterator[tuple[str, Verdict]]:
    """Import one with everything in it that is mended rather than refused, and look at the root it made."""
    devices: list[Entry] = [("char", tarfile.CHRTYPE, b""), ("block", tarfile.BLKTYPE, b""),
                            ("pipe", tarfile.FIFOTYPE, b"")]  # fmt: skip
    links: list[Entry] = [(name, _LINK, str(host)) for name in ("proc", "dev", "tmp", "workspace", "inputs", "gone")]
    lower = tar_of([*devices, *links, ("su", _FILE, b"x"), ("a", _LINK, str(host / "secret")), ("a", _FILE, b"evil"),
                    ("etc", _DIR, b""), ("etc/passwd", _LINK, str(host / "secret"))], mode=0o7777)  # fmt: skip
    try:
        root = store.import_docker_archive(io.BytesIO(archive_of(lower, tar_of([(".wh.gone", _FILE, b"")])))).path
    except ImageInvalid as error:
        yield from ((name, (False, error.message)) for name in _CASES_OF_TAKEN)
        return
    untouched = (host / "secret").read_text() == "secret" and os.listdir(host) == ["secret"]  # noqa: PTH208 - names
    bits = stat.S_IMODE((root / "su").stat().st_mode)
    judged: dict[str, Callable[[], bool]] = {
        "devices": lambda: not (root / "char").exists() and not (root / "block").exists(),
        "pipes": lambda: not (root / "pipe").exists(),
        "setuid_bits": lambda: not bits & stat.S_ISUID,
        "setgid_bits": lambda: not bits & stat.S_ISGID,
        "file_over_a_link": lambda: untouched and (root / "a").read_bytes() == b"evil",
        "whiteout_of_a_link": lambda: untouched and not (root / "gone").is_symlink(),
        "mount_points_as_links": lambda: untouched and not any((root / p).is_symlink() for p, *_ in links),
        "accounts_as_a_link": lambda: untouched and not (root / "etc/passwd").is_symlink(),
    }
    for name in _CASES_OF_TAKEN:
        yield name, (judged[name](), oct(bits))
