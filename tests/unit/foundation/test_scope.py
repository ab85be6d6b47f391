"""A scope belongs to the request or task that entered it, and to nobody beside it."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from uuid import UUID

import pytest

from tenantry.foundation.errors import Fault
from tenantry.foundation.scope import SYSTEM, TenantScope, current_scope, require_scope, scoped


def scope(number: int) -> TenantScope:
    return TenantScope(tenant_id=UUID(int=number), region="us", actor=SYSTEM)


def test_outside_of_a_request_there_is_no_scope() -> None:
    assert current_scope() is None
    with pytest.raises(Fault) as refused:
        require_scope()
    assert refused.value.code == "scope_missing"


def test_inside_there_is_the_one_entered_and_afterwards_the_former() -> None:
    with scoped(scope(1)) as outer:
        with scoped(scope(2)) as inner:
            assert require_scope() is inner
        assert require_scope() is outer
    assert current_scope() is None


def test_an_exception_leaves_no_scope_behind() -> None:
    def fail() -> None:
        with scoped(scope(1)):
            raise RuntimeError("broken")

    with scoped(scope(3)) as outer:
        with pytest.raises(RuntimeError, match="broken"):
            fail()
        assert require_scope() is outer
    assert current_scope() is None


async def test_tasks_side_by_side_see_only_their_own_scope() -> None:
    all_in = asyncio.Barrier(20)

    async def request(number: int) -> bool:
        with scoped(scope(number)):
            await all_in.wait()
            same = require_scope().tenant_id == UUID(int=number)
            await asyncio.sleep(0)
            return same and require_scope().tenant_id == UUID(int=number)

    assert all(await asyncio.gather(*(request(number) for number in range(20))))
    assert current_scope() is None


async def test_a_task_keeps_the_scope_it_was_started_in() -> None:
    go = asyncio.Event()

    async def late() -> TenantScope:
        await go.wait()
        return require_scope()

    with scoped(scope(1)) as first:
        task = asyncio.create_task(late())
    with scoped(scope(2)):
        go.set()
        assert await task is first


async def test_a_task_cannot_change_the_scope_of_whoever_started_it() -> None:
    async def enters() -> None:
        scoped(scope(9)).__enter__()

    with scoped(scope(1)) as own:
        await asyncio.create_task(enters())
        assert require_scope() is own


async def test_a_cancelled_task_leaves_no_scope_behind() -> None:
    started = asyncio.Event()
    seen: list[TenantScope | None] = []

    async def request() -> None:
        try:
            with scoped(scope(1)):
                started.set()
                await asyncio.Event().wait()
        finally:
            seen.append(current_scope())

    task = asyncio.create_task(request())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [None]


async def test_a_thread_that_works_for_a_request_sees_its_scope() -> None:
    with scoped(scope(1)) as own:
        assert await asyncio.to_thread(require_scope) is own


def test_a_thread_of_a_pool_sees_none_unless_it_was_handed_one() -> None:
    with ThreadPoolExecutor(1) as pool, scoped(scope(1)) as own:
        assert pool.submit(current_scope).result(timeout=10) is None
        assert pool.submit(contextvars.copy_context().run, current_scope).result(timeout=10) is own
        assert pool.submit(current_scope).result(timeout=10) is None


def test_threads_side_by_side_see_only_their_own_scope() -> None:
    together = threading.Barrier(8, timeout=10)

    def request(number: int) -> UUID:
        with scoped(scope(number)):
            together.wait()
            return require_scope().tenant_id

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(request, range(8))) == [UUID(int=number) for number in range(8)]


def test_a_scope_cannot_be_changed_but_for_a_copy_in_a_workspace() -> None:
    own = scope(1)
    with pytest.raises(FrozenInstanceError):
        own.tenant_id = UUID(int=2)  # type: ignore[misc]
    narrowed = own.in_workspace(UUID(int=7))
    assert (narrowed.tenant_id, narrowed.workspace_id) == (own.tenant_id, UUID(int=7))
    assert own.workspace_id is None
