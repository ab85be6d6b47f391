"""How far a pull is, told as it goes, from whichever thread."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tenantry.capabilities.sandboxes.types import PullPhase, PullProgress

if TYPE_CHECKING:
    from tenantry.engines.jail.oci import Manifest
    from tenantry.engines.jail.registry import Progress

Tell = Callable[[PullProgress], object]


class PullTeller:
    """Made when a registry is about to be asked, and tells so.

    Used in the loop's thread, but for `unpacked`; `tell` is called there too.
    """

    def __init__(self, reference: str, tell: Tell | None) -> None:
        self._now = PullProgress(reference)
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._say()

    def fetched(self, progress: "Progress") -> None:
        self._say(
            phase=PullPhase.FETCHING,
            layers_done=progress.layers_done,
            layers_total=progress.layers_total,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
        )

    def unpacking(self) -> None:
        self._say(phase=PullPhase.UNPACKING)

    def unpacked(self, layers: int) -> None:
        """From the thread that unpacks."""
        self._loop.call_soon_threadsafe(self._unpacked, layers)

    def storing(self, manifest: "Manifest") -> None:
        """All is here, fetched now or before."""
        layers, size = len(manifest.layers), self._now.bytes_total or manifest.size_bytes
        self._say(
            phase=PullPhase.STORING,
            layers_done=layers,
            layers_total=layers,
            layers_unpacked=layers,
            bytes_done=size,
            bytes_total=size,
        )

    def _unpacked(self, layers: int) -> None:
        # What a thread says may come after what followed it.
        if self._now.phase is PullPhase.UNPACKING:
            self._say(layers_unpacked=layers)

    def _say(self, **changes: Any) -> None:
        self._now = replace(self._now, **changes)
        if self._tell is not None:
            self._tell(self._now)
