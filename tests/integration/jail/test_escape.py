from pathlib import Path
from typing import Any

import pytest

from tenantry.engines.jail.cgroups import CgroupVersion, Hierarchy
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.selftest import selftest

EXPECTED_CHECKS = 34


async def test_the_escape_suite_finds_no_way_out(prison: Any) -> None:
    results = await selftest(prison.jail, prison.host)
    assert [result for result in results if not result.ok] == []
    assert len(results) >= EXPECTED_CHECKS - 1


async def test_it_holds_without_a_cgroup_too(tmp_path: Path) -> None:
    async with await Jail.open(tmp_path, hierarchy=Hierarchy(CgroupVersion.NONE)) as jail:
        results = await selftest(jail, ImageStore(tmp_path / "images").host())
        assert [result for result in results if not result.ok] == []
        assert jail.isolation == "rlimit"


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
