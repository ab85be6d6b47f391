"""Lists come in pages; these walk them.

    for job in client.jobs.list("ws_…", limit=500): …

`limit` bounds the items of the whole walk (None: all there are). After the walk `next_cursor` tells where the next one
would go on, None at the end of the list.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from tenantry.client.calls import Call
from tenantry.client.errors import BadAnswer

R = TypeVar("R")

LARGEST_PAGE = 100


def _same(item: Any) -> Any:
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[R]):
    """A list to walk: the call of any of its pages, without `limit` and `cursor`."""

    call: Call[Any]
    limit: int | None = None
    cursor: str | None = None
    item: Callable[[Any], R] = _same


class _Walk(Generic[R]):
    """Which page comes next."""

    def __init__(self, plan: Plan[R]) -> None:
        self.next_cursor = plan.cursor
        self._plan = plan
        self._left = plan.limit
        self._started = False

    def next_call(self) -> Call[Any] | None:
        if (self._started and self.next_cursor is None) or (self._left is not None and self._left <= 0):
            return None
        self._started = True
        size = LARGEST_PAGE if self._left is None else min(self._left, LARGEST_PAGE)
        query = (*self._plan.call.query, ("limit", str(size)))
        if self.next_cursor is not None:
            query += (("cursor", self.next_cursor),)
        return replace(self._plan.call, query=query)

    def accept(self, page: Any) -> list[R]:
        items = page.get("items") if isinstance(page, dict) else None
        if not isinstance(items, list):
            raise BadAnswer("page_expected", "a list answers with items and next_cursor")
        cursor = page.get("next_cursor")
        if cursor is not None and (not isinstance(cursor, str) or cursor == self.next_cursor):
            raise BadAnswer("cursor_stuck", "the list's next page is the page just read")
        self.next_cursor = cursor
        if self._left is not None:
            self._left -= len(items)
        return [self._plan.item(item) for item in items]


class Pages(Generic[R]):
    """Iterate it; every iteration asks anew, from the first page on."""

    def __init__(self, plan: Plan[R], send: Callable[[Call[Any]], Any]) -> None:
        self.next_cursor = plan.cursor
        self._plan = plan
        self._send = send

    def __iter__(self) -> Iterator[R]:
        walk = _Walk(self._plan)
        while (call := walk.next_call()) is not None:
            items = walk.accept(self._send(call))
            self.next_cursor = walk.next_cursor
            yield from items


class AsyncPages(Generic[R]):
    """The same, for `async for`."""

    def __init__(self, plan: Plan[R], send: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self.next_cursor = plan.cursor
        self._plan = plan
        self._send = send

    async def __aiter__(self) -> AsyncIterator[R]:
        walk = _Walk(self._plan)
        while (call := walk.next_call()) is not None:
            items = walk.accept(await self._send(call))
            self.next_cursor = walk.next_cursor
            for item in items:
                yield item
