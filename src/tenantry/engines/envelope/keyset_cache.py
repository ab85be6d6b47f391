import asyncio
from collections import OrderedDict

from tenantry.engines.envelope.keyset import Keyset
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.clock import Clock

_Place = tuple[bytes, bytes]


class KeysetCache:
    """Unwrapped keysets of this process, so that the KMS is asked once and not for every value.

    Holds `capacity` keysets for `ttl_seconds` each: as long may a process go on after a wrapping key was destroyed
    elsewhere, unless it is told to `forget`. Callers that ask at once share one call to the KMS.
    """

    def __init__(self, wrapper: KeyWrapper, clock: Clock, *, capacity: int = 1_000, ttl_seconds: float = 300.0) -> None:
        self._wrapper = wrapper
        self._clock = clock
        self._capacity = capacity
        self._ttl_seconds = ttl_seconds
        self._held: OrderedDict[_Place, tuple[Keyset, float]] = OrderedDict()
        self._asked: dict[_Place, asyncio.Task[Keyset]] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def get(self, wrapped: bytes, *, context: bytes) -> Keyset:
        """Unwrap, or recall having done so; raises what `KeyWrapper.unwrap` raises."""
        place = context, wrapped
        held = self._held.get(place)
        if held is not None and held[1] > self._clock.monotonic():
            self._held.move_to_end(place)
            return held[0]
        asked = self._asked.get(place)
        if asked is None:
            asked = self._asked[place] = asyncio.create_task(self._fetch(place))
            asked.add_done_callback(_seen)
        # Shielded: who gives up waiting does not take the answer from the others.
        return await asyncio.shield(asked)

    def forget(self, context: bytes) -> None:
        """Drop every keyset of a context, those on their way included."""
        for place in [place for place in self._held if place[0] == context]:
            del self._held[place]
        for place in [place for place in self._asked if place[0] == context]:
            del self._asked[place]

    async def _fetch(self, place: _Place) -> Keyset:
        context, wrapped = place
        task = asyncio.current_task()
        try:
            keyset = await Keyset.unwrap(wrapped, wrapper=self._wrapper, context=context)
        finally:
            wanted = self._asked.get(place) is task
            if wanted:
                del self._asked[place]
        if wanted:
            self._held[place] = keyset, self._clock.monotonic() + self._ttl_seconds
            self._held.move_to_end(place)
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
        return keyset


def _seen(task: "asyncio.Task[Keyset]") -> None:
    # Its failure is raised to whoever still waits; if nobody does, it is no news.
    if not task.cancelled():
        task.exception()
