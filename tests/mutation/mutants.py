"""Jails with one thing missing, and what the escape suite says of them."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path

import pytest

from tenantry.engines.jail import entrance, furnish
from tenantry.engines.jail.bubblewrap import _in_wheel, find_bubblewrap
from tenantry.engines.jail.escape.catalogue import CASES
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.selftest import selftest
from tenantry.foundation.errors import TenantryError

QUICK_GROUPS = {"identity", "limits", "namespaces", "mounts", "devices", "chain"}
PATIENCE_SECONDS = 15
_SETUP_SECONDS = 3.0
_DOOR_SECONDS = 1.0


async def open_cases(home: Path, *, binary: Path, groups: set[str], but: tuple[str, ...] = ()) -> list[str]:
    """Open a jail as it now is and run these groups, but cases whose code begins so; the codes of those that are open.

    A jail that starts nothing is red too, and says `jail.` and why.
    """
    wanted = tuple(case for case in CASES if case.group in groups and not case.code.startswith(but))
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            await Jail.open(home, bubblewrap=binary, trial=False, spare=1) as jail,
        ):
            found = await selftest(jail, ImageStore(home / "images").host(), cases=wanted)
    except (TenantryError, OSError, TimeoutError) as error:
        return [f"jail.{type(error).__name__}"]
    return [result.code for result in found if not result.ok]


def any_bubblewrap() -> Path:
    """The newest there is: the wheel's, else the system's."""
    return _in_wheel() or find_bubblewrap().path


def be_impatient(patch: pytest.MonkeyPatch) -> None:
    """A sandbox that does not reach its barrier, or its filter, is given up soon."""
    patch.setattr(furnish, "_SETUP_SECONDS", _SETUP_SECONDS)
    patch.setattr(furnish, "_FILTER_SECONDS", _SETUP_SECONDS)
    patch.setattr(entrance, "_SECONDS", _DOOR_SECONDS)


Option = tuple[str, list[str]]
MODIFIERS = {"--perms", "--size"}
NAMED_BY_LAST = {"--ro-bind", "--bind", "--file"}


def options_of(arguments: bytes) -> Iterator[Option]:
    """Each option with its values, under a name that tells it from its like and not what differs between specs."""
    words = arguments.decode().split("\0")[:-1]
    parts: list[list[str]] = []
    while words:
        values = list(takewhile(lambda word: not word.startswith("--"), words[1:]))
        parts.append([words[0], *values])
        del words[: 1 + len(values)]
    for number, part in enumerate(parts):
        flag = part[0]
        if flag in MODIFIERS:
            target = next(later[-1] for later in parts[number:] if later[0] not in MODIFIERS)
            yield f"{flag} of {target}", part
        elif flag in NAMED_BY_LAST:
            yield f"{flag} {part[-1]}", part
        elif flag == "--setenv":
            yield f"{flag} {part[1]}", part
        else:
            yield " ".join(part), part


def without(arguments: bytes, name: str) -> bytes:
    return _joined(part for other, part in options_of(arguments) if other != name)


def replaced(arguments: bytes, flags: Mapping[str, str], name: str) -> bytes:
    """The same options, the one of that name under another flag."""
    return _joined([flags[p[0]], *p[1:]] if other == name else p for other, p in options_of(arguments))


def _joined(parts: Iterator[list[str]]) -> bytes:
    return b"".join(word.encode() + b"\0" for part in parts for word in part)
