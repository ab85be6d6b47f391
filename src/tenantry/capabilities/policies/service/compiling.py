"""From what is stored, configured or set to compiled documents; each is compiled once in a process."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import structlog

from tenantry.capabilities.policies.errors import policy_files_invalid, settings_invalid
from tenantry.capabilities.policies.types import Layer, LivePolicy, Placed
from tenantry.capabilities.tenants.types import WorkspaceSettings
from tenantry.engines.rules.documents import Bundle, from_value, load
from tenantry.engines.rules.errors import DocumentError
from tenantry.engines.rules.types import Kind

_COMPILED: Final = 2000
_SETTINGS: Final = "settings."
FILES: Final[Mapping[Kind, str]] = {
    kind: "rules.yaml" if kind is Kind.RULES else f"{kind}-policy.yaml" for kind in Kind
}
"""Of the installation's directory of policies."""

_log = structlog.get_logger(__name__)


class Compiler:
    """Keeps what it has compiled by its digest: news of a tenant drop what is known of it, not what that means."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[Kind, str], Bundle] = {}

    def place(self, policy: LivePolicy) -> Placed:
        """Compile it; what an earlier version accepted and this one does not has no bundle, and denies."""
        layer = Layer.TENANT if policy.workspace_id is None else Layer.WORKSPACE
        return Placed(layer, policy.kind, self._bundle(policy), policy.version)

    def _bundle(self, policy: LivePolicy) -> Bundle | None:
        key = (policy.kind, policy.digest)
        found = self._compiled.get(key)
        if found is None:
            try:
                found = from_value(policy.kind, policy.document)
            except DocumentError as error:
                _log.error("policy.unusable", kind=policy.kind, version=policy.version, faults=len(error.faults))
                return None
            if len(self._compiled) >= _COMPILED:
                self._compiled.clear()
            self._compiled[key] = found
        return found


def settings_placed(settings: WorkspaceSettings) -> tuple[Placed, ...]:
    """Give what a workspace's settings say of images: a document of its layer like any other."""
    if not settings.allowed_images and not settings.blocked_images:
        return ()
    bundle = _settings_bundle(tuple(settings.allowed_images), tuple(settings.blocked_images))
    return (Placed(Layer.WORKSPACE, Kind.IMAGE, bundle, prefix=_SETTINGS),)


def require_settings(settings: WorkspaceSettings) -> None:
    """Raise Invalid `image_glob_invalid` where the lists of images are none that could decide anything."""
    try:
        from_value(Kind.IMAGE, _lists(tuple(settings.allowed_images), tuple(settings.blocked_images)))
    except DocumentError as error:
        raise settings_invalid(error.faults[0].path, error.faults[0].rule) from None


@lru_cache(maxsize=_COMPILED)
def _settings_bundle(allowed: tuple[str, ...], blocked: tuple[str, ...]) -> Bundle | None:
    try:
        return from_value(Kind.IMAGE, _lists(allowed, blocked))
    except DocumentError:
        return None


def _lists(allowed: tuple[str, ...], blocked: tuple[str, ...]) -> dict[str, Any]:
    given = {"allowed_images": list(allowed), "blocked_images": list(blocked)}
    return {name: globs for name, globs in given.items() if globs}


def load_platform_policies(directory: Path, *, required: bool) -> tuple[Placed, ...]:
    """Read the installation's own; raises Invalid `policies_invalid` with file, line and rule of every fault.

    A file that is not there says nothing; `required` is the directory itself.
    """
    if not directory.is_dir():
        if required:
            raise policy_files_invalid([f"{directory}: is no directory"])
        return ()
    placed, faults = [], []
    known = set(FILES.values())
    faults += [f"{file.name}: is no policy" for file in sorted(directory.glob("*.y*ml")) if file.name not in known]
    for kind, name in FILES.items():
        file = directory / name
        try:
            placed.append(Placed(Layer.PLATFORM, kind, load(kind, file.read_bytes())))
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(f"{name}: {error.strerror}")
        except DocumentError as error:
            faults += [f"{name}: {fault}" for fault in error.faults]
    if faults:
        raise policy_files_invalid(faults)
    return tuple(placed)
