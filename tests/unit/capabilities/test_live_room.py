"""What one tenant's sandboxes may take of the worker that they live in."""

import asyncio
import threading
from contextlib import ExitStack
from typing import Any, cast

import pytest

from tenantry.capabilities.sandboxes.service.live_protocol import error_of, told_of
from tenantry.capabilities.sandboxes.service.live_room import LiveEntry, LiveRoom
from tenantry.engines.jail.errors import WatchesExhausted
from tenantry.engines.jail.watching import fair_share
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.errors import Exhausted
from tenantry.foundation.ids import new_id
from tenantry.interfaces.api.problems import problem_of
from tenantry.kit.masking.stream import Mask

CLOCK = SystemClock()


def entry(tenant_id: Any) -> LiveEntry:
    """One whose sandbox nobody asks."""
    return LiveEntry(
        tenant_id=tenant_id,
        workspace_id=new_id(),
        sandbox_id=new_id(),
        job_id=new_id(),
        place="",
        keeps=False,
        most_kept_bytes=0,
        sandbox=cast("Any", None),
        mask=Mask(()),
        clock=CLOCK,
    )


def room() -> LiveRoom:
    return LiveRoom(content=cast("Any", None), clock=CLOCK)


def test_a_tenants_watches_are_a_share_of_the_machines() -> None:
    living, one, other = room(), new_id(), new_id()
    with ExitStack() as held:
        for _ in range(fair_share()):
            held.enter_context(living.watched(entry(one)))
        with pytest.raises(Exhausted) as refused, living.watched(entry(one)):
            pass
        assert (refused.value.code, refused.value.fields["limit"]) == ("watch_limit", fair_share())
        with living.watched(entry(other)):
            pass
    assert not living._watches
    with living.watched(entry(one)):
        pass


def test_that_the_kernel_has_no_watch_left_is_told_over_the_link_as_it_is() -> None:
    answer = problem_of(error_of(told_of(WatchesExhausted())), trace_id="")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert b'"watches_exhausted"' in answer.body
    assert b"fs.inotify.max_user_instances" in answer.body


async def test_long_work_with_the_files_of_one_tenant_holds_up_no_other() -> None:
    living, one, free = room(), new_id(), threading.Event()
    try:
        long = [asyncio.ensure_future(living.in_thread(entry(one), lambda: free.wait(60))) for _ in range(50)]
        async with asyncio.timeout(10):
            assert await living.in_thread(entry(new_id()), lambda: "done") == "done"
    finally:
        free.set()
    assert all(await asyncio.gather(*long))
