"""What the host sees of a living sandbox under gVisor: its kernel, its file server, and all that is in its group."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.engines.jail import kernel
from tenantry.engines.jail.escape.cases import Case, Verdict
from tenantry.engines.jail.receipt import Receipt

_SENTRY: Final = frozenset({"sentry"})
_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_NAMED: Final = b"runsc-"
_LAUNCHER: Final = b"launcher.py"
_FILTER: Final = "2"
#: All that is in the root directory of a sentry.
_ROOT: Final = {"etc", "proc"}


@dataclass(frozen=True, slots=True)
class SentryView:
    """A living sandbox from outside, by process numbers of the host."""

    sentry: int
    gofer: int
    members: tuple[int, ...]
    receipt: Receipt
    canary: str


Look = Callable[[SentryView], Verdict]


def find_sentry(receipt: Receipt, members: list[int], *, canary: str) -> SentryView:
    """Find the two by the names they run under; raises LookupError."""
    named = {pid: words for pid in members if (words := _words(pid)).startswith(_NAMED)}
    sentry = next((pid for pid, words in named.items() if words.startswith(b"runsc-sandbox")), 0)
    gofer = next((pid for pid, words in named.items() if words.startswith(b"runsc-gofer")), 0)
    if not sentry or not gofer:
        raise LookupError("the group has no sentry, or no file server")
    return SentryView(sentry, gofer, tuple(members), receipt, canary)


def _words(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _statuses(view: SentryView) -> list[dict[str, str]]:
    """Read those of all in the group but the seat, a fork of the launcher, which keeps it until it has been read."""
    found = []
    for pid in view.members:
        with suppress(OSError):
            if _LAUNCHER in _words(pid):
                continue
            found.append(kernel.read_status(pid))
    return [status for status in found if not status["State"].startswith("Z")]


def _all_filtered(view: SentryView) -> Verdict:
    bare = [status["Pid"] for status in _statuses(view) if status.get("Seccomp") != _FILTER]
    return not bare, " ".join(bare)


def _none_gains(view: SentryView) -> Verdict:
    free = [status["Pid"] for status in _statuses(view) if status.get("NoNewPrivs") != "1"]
    return not free, " ".join(free)


def _namespaces(view: SentryView) -> Verdict:
    own, ours = kernel.read_namespaces(view.sentry), kernel.read_namespaces(os.getpid())
    shared = [kind for kind in ("ipc", "mnt", "net", "user", "uts") if own[kind] == ours[kind]]
    return not shared, " ".join(shared)


def _nobody(view: SentryView) -> Verdict:
    status = kernel.read_status(view.sentry)
    found = {*status["Uid"].split(), *status["Gid"].split()}
    return found.isdisjoint({"0", str(os.getuid())}), " ".join(sorted(found))


def _apart(view: SentryView) -> Verdict:
    """See that what it may is bounded by a user namespace of its own."""
    masks = {name: int(kernel.read_status(view.sentry)[name], 16) for name in _SETS}
    own = kernel.read_namespaces(view.sentry)["user"] != kernel.read_namespaces(os.getpid())["user"]
    return own or not any(masks.values()), f"{masks} {own}"


def _empty_root(view: SentryView) -> Verdict:
    place = Path(f"/proc/{view.sentry}/root")
    found = {entry.name for entry in place.iterdir()}
    return found <= _ROOT and not place.samefile("/"), str(found)


def _image_root(view: SentryView) -> Verdict:
    place = Path(f"/proc/{view.gofer}/root")
    names = {entry.name for entry in place.iterdir()}
    return {"workspace", "inputs", "etc"} <= names and not place.samefile("/"), " ".join(sorted(names))


def _not_told(read: Callable[[int], bytes]) -> Look:
    def look(view: SentryView) -> Verdict:
        telling = [str(pid) for pid in view.members if view.canary.encode() in read(pid)]
        return not telling, " ".join(telling)

    return look


def _environment(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _bare(view: SentryView) -> Verdict:
    """See that neither has a variable of the supervisor's."""
    ours = {f"{name}={value}".encode() for name, value in os.environ.items() if name != "PATH"}
    held = [entry for pid in (view.sentry, view.gofer) for entry in _environment(pid).split(b"\0") if entry in ours]
    return not held, b" ".join(held).decode(errors="replace")


_LOOKS: Final[tuple[tuple[str, str, str, Look], ...]] = (
    ("chain", "sentry_uid", "nobody's, neither root's nor the supervisor's", _nobody),
    ("chain", "sentry_capabilities", "none outside a user namespace of its own", _apart),
    ("chain", "sentry_namespaces", "ipc, mnt, net, user and uts of its own", _namespaces),
    ("chain", "sentry_root", "an empty directory", _empty_root),
    ("chain", "sentry_environment", "nothing of the supervisor's", _bare),
    ("chain", "gofer_root", "the container's, not the host's", _image_root),
    ("chain", "members_filtered", "every process of the group has a seccomp filter", _all_filtered),
    ("chain", "members_no_new_privs", "every process of the group", _none_gains),
    ("secrets", "not_on_the_sentry", "the canary is on no command line of the group", _not_told(_words)),
    ("secrets", "not_in_the_sentry", "the canary is in no environment of the group", _not_told(_environment)),
)
CASES: Final = tuple(Case(group, name, expected, needs=_SENTRY) for group, name, expected, _ in _LOOKS)


def look(view: SentryView) -> Iterator[tuple[str, Verdict]]:
    """Judge each case of this module by its code."""
    for case, (*_, judge) in zip(CASES, _LOOKS, strict=True):
        try:
            yield case.code, judge(view)
        except (OSError, ValueError, LookupError) as error:
            yield case.code, (False, repr(error))
