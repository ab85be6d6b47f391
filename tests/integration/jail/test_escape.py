from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.prisons import KINDS, Prison, opened_prison

from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy
from tenantry.engines.jail.escape.catalogue import CASES, GROUPS
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.selftest import selftest

FEWEST_CASES = 750


@pytest.fixture(scope="module", params=KINDS)
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison(request.param, tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


async def test_the_escape_suite_finds_no_way_out(prison: Any) -> None:
    results = await selftest(prison.jail, prison.host)
    assert [result for result in results if not result.ok] == []
    assert [result.code for result in results] == [case.code for case in CASES]


async def test_it_holds_without_a_cgroup_too(tmp_path: Path) -> None:
    async with await Jail.open(tmp_path, hierarchy=Hierarchy(CgroupVersion.NONE)) as jail:
        results = await selftest(jail, ImageStore(tmp_path / "images").host())
        assert [result for result in results if not result.ok] == []
        assert jail.isolation == "rlimit"
        assert {result.skipped for result in results if result.code.startswith("limits.cgroup")} == {"cgroup"}


def test_every_case_has_one_code_and_every_group_its_cases() -> None:
    assert max(Counter(case.code for case in CASES).values()) == 1
    assert {case.group for case in CASES} == set(GROUPS)
    assert len(CASES) >= FEWEST_CASES


async def test_a_program_that_does_not_come_to_its_cases_has_not_held(
    prison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that ends at once leaves no case of the inside standing."""
    monkeypatch.setattr("tenantry.engines.jail.selftest._START", "raise SystemExit(3)  # ")
    inside = tuple(case for case in CASES if case.group == "identity")
    results = await selftest(prison.jail, prison.host, cases=inside)
    assert not any(result.ok for result in results if not result.skipped)
    assert "exited 3" in results[0].detail


@pytest.mark.parametrize("place", ["/root", "/home", "/var/lib", "/boot", "/srv", "/work"])
async def test_private_places_of_the_host_are_not_there(prison: Any, place: str) -> None:
    ran = await prison.sh(f"ls -A {place} 2>/dev/null | head -3")
    assert ran.out == ""


async def test_nothing_of_another_sandbox_is_seen_even_after_its_death(prison: Any) -> None:
    await prison.sh(
        "echo canary-77 > /workspace/a; echo canary-77 > /tmp/b; echo canary-77 > /dev/shm/c; echo canary-77 > /run/d"
    )
    ran = await prison.sh("cat /workspace/* /tmp/* /dev/shm/* /run/* 2>/dev/null; ls -A /workspace /tmp /dev/shm /run")
    assert "canary" not in ran.out
