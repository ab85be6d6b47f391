"""By which paths the launcher reaches images that lie where no other uid enters: those in use, and the last few.

Each is a mount of the launcher's, and every sandbox begins with a copy of all of those.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

Key = tuple[Path, int, int]
MOST: Final = 32
"""Paths that stay exposed though nothing starts from them: an image is one, the host some."""


class Exposures:
    """Of one launcher. `expose` mounts a path and gives where; `conceal` ends what it gave."""

    def __init__(
        self, *, expose: Callable[[Path], Awaitable[Path]], conceal: Callable[[Path], None], most: int = MOST
    ) -> None:
        self._expose = expose
        self._conceal = conceal
        self._most = most
        self._places: OrderedDict[Key, Path] = OrderedDict()
        self._held: Counter[Key] = Counter()

    async def hold(self, path: Path, *, near: Callable[[], bool]) -> tuple[Key, Path]:
        """Give by which path it is reached until it is let go; itself where it is `near`. Raises OSError.

        Calls must not overlap.
        """
        key = _key_of(path)
        if key not in self._places:
            if near():
                self._places[key] = path
            else:  # who asked may be gone before it is there: then it is known all the same
                await asyncio.shield(asyncio.ensure_future(self._mount(key)))
        self._places.move_to_end(key)
        self._held[key] += 1
        return key, self._places[key]

    async def _mount(self, key: Key) -> None:
        self._places[key] = await self._expose(key[0])

    def let_go(self, keys: Iterable[Key]) -> None:
        """End holds of before, and what has not been held for longest."""
        self._held.subtract(keys)
        self._held = +self._held
        for key in [key for key in self._places if key not in self._held][: max(0, len(self._places) - self._most)]:
            if (place := self._places.pop(key)) != key[0]:
                self._conceal(place)


def _key_of(path: Path) -> Key:
    status = path.stat()
    return path, status.st_dev, status.st_ino
