"""The files of both versions, on directories laid out as the kernel lays them out; real groups are in integration."""

import os
from pathlib import Path

import pytest

from tenantry.engines.jail.cgroups import Cgroup, CgroupReading, CgroupVersion, Hierarchy, find_hierarchy, sweep_empty
from tenantry.engines.jail.types import Limits


def lay_out(tmp_path: Path, *, controllers: str) -> Path:
    """A process in /app.service of a version 2 tree whose files are plain."""
    place = tmp_path / "cgroup/app.service"
    (place / "tenantry-jail").mkdir(parents=True)
    (place / "cgroup.controllers").write_text(controllers)
    (place / "cgroup.procs").write_text("")
    for directory in (place, place / "tenantry-jail"):
        (directory / "cgroup.subtree_control").write_text("")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cgroup").write_text("0::/app.service\n")
    (tmp_path / "proc/mountinfo").write_text(f"30 23 0:26 / {tmp_path}/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
    return place


def test_a_delegated_version_2_subtree_is_divided(tmp_path: Path) -> None:
    place = lay_out(tmp_path, controllers="cpuset cpu io memory pids\n")
    found = find_hierarchy(proc=tmp_path / "proc")
    assert found.version is CgroupVersion.V2
    assert found.directories == (place / "tenantry-jail",)
    assert (place / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_a_subtree_without_the_controllers_is_none_and_says_why(tmp_path: Path) -> None:
    lay_out(tmp_path, controllers="hugetlb\n")
    found = find_hierarchy(proc=tmp_path / "proc")
    assert found.version is CgroupVersion.NONE
    assert "cpu, memory, pids" in found.reason
    assert "v1 has no memory" in found.reason


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (
            CgroupVersion.V2,
            ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"),
            {
                "memory.max": str(64 << 20),
                "memory.swap.max": "0",
                "memory.oom.group": "1",
                "pids.max": "13",
                "cpu.max": "50000 100000",
            },
        ),
        (
            CgroupVersion.V1,
            (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                "pids.max",
                "cpu.cfs_quota_us",
                "cpu.cfs_period_us",
            ),
            {
                "memory.limit_in_bytes": str(64 << 20),
                "memory.memsw.limit_in_bytes": str(64 << 20),
                "pids.max": "13",
                "cpu.cfs_quota_us": "50000",
                "cpu.cfs_period_us": "100000",
            },
        ),
    ],
)
def test_limits_are_written_and_read_back(
    tmp_path: Path, version: CgroupVersion, files: tuple[str, ...], expected: dict[str, str]
) -> None:
    group = Cgroup(Hierarchy(version=version, parents=dict.fromkeys(("memory", "pids", "cpu"), tmp_path)), "one")
    group.create()
    for name in files:
        (tmp_path / "one" / name).write_text("")
    group.bound(Limits(memory_mib=64, pids=10, cpus=0.5))
    assert group.values() == expected


def test_what_version_2_counted_is_read(tmp_path: Path) -> None:
    group = Cgroup(Hierarchy(version=CgroupVersion.V2, parents={"memory": tmp_path}), "one")
    group.create()
    (tmp_path / "one/memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n")
    (tmp_path / "one/memory.peak").write_text(str(3 << 20))
    (tmp_path / "one/cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nthrottled_usec 250000\n")
    (tmp_path / "one/pids.events").write_text("max 4\n")
    assert group.reading() == CgroupReading(
        oom_kills=1,
        memory_limit_hits=7,
        pids_refused=4,
        throttled_seconds=0.25,
        peak_memory_mib=3.0,
        cpu_seconds=1.5,
    )


@pytest.mark.parametrize(("counters", "cpu"), [((), None), (("cpuacct",), 1.5)])
def test_what_version_1_counted_is_read(tmp_path: Path, counters: tuple[str, ...], cpu: float | None) -> None:
    parents = dict.fromkeys(("memory", "pids", "cpu", *counters), tmp_path)
    group = Cgroup(Hierarchy(version=CgroupVersion.V1, parents=parents), "one")
    group.create()
    for name, text in {
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "memory.failcnt": "3",
        "memory.memsw.failcnt": "4",
        "memory.max_usage_in_bytes": str(3 << 20),
        "pids.events": "max 5\n",
        "cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 250000000\n",
        "cpuacct.usage": "1500000000",
    }.items():
        (tmp_path / "one" / name).write_text(text)
    assert group.reading() == CgroupReading(
        oom_kills=2,
        memory_limit_hits=7,
        pids_refused=5,
        throttled_seconds=0.25,
        peak_memory_mib=3.0,
        cpu_seconds=cpu,
    )


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (CgroupVersion.V2, {"cpu.max": "max", "cpu.weight": "10000"}),
        (CgroupVersion.V1, {"cpu.cfs_quota_us": "-1", "cpu.shares": "262144"}),
    ],
)
def test_what_was_killed_is_not_held_back_from_dying(
    tmp_path: Path, version: CgroupVersion, expected: dict[str, str]
) -> None:
    group = Cgroup(Hierarchy(version=version, parents=dict.fromkeys(("memory", "pids", "cpu"), tmp_path)), "one")
    group.create()
    for name in expected:
        (tmp_path / "one" / name).write_text("")
    group.hurry()
    assert {path.name: path.read_text() for path in (tmp_path / "one").iterdir()} == expected
    (tmp_path / "one" / next(iter(expected))).unlink()
    group.hurry()


def test_no_hierarchy_bounds_nothing_and_breaks_nothing() -> None:
    group = Cgroup(Hierarchy(version=CgroupVersion.NONE), "one")
    group.create()
    group.bound(Limits())
    group.hurry()
    group.kill()
    group.remove()
    assert (group.values(), group.join_files, group.reading().oom_kills) == ({}, (), 0)


def test_only_empty_groups_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    gone, used, mine = "999999999-0123456789ab-1", "999999999-0123456789ab-2", f"{os.getpid()}-0123456789ab-1"
    for name in (gone, used, mine, "somebody-else"):
        (tmp_path / name).mkdir()
    (tmp_path / used / "child").mkdir()
    assert sweep_empty(Hierarchy(version=CgroupVersion.V1, parents={"pids": tmp_path})) == 1
    assert {path.name for path in tmp_path.iterdir()} == {used, mine, "somebody-else"}


def test_a_version_2_group_is_frozen_for_a_block_and_thawed_whatever_happens(tmp_path: Path) -> None:
    group = Cgroup(Hierarchy(version=CgroupVersion.V2, parents={"memory": tmp_path}), "g")
    (tmp_path / "g").mkdir()
    with group.frozen():  # a kernel that cannot
        assert not (tmp_path / "g/cgroup.freeze").exists()
    (tmp_path / "g/cgroup.freeze").write_text("0")
    (tmp_path / "g/cgroup.events").write_text("populated 1\nfrozen 1\n")

    def fail_frozen() -> None:
        with group.frozen():
            assert (tmp_path / "g/cgroup.freeze").read_text() == "1"
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        fail_frozen()
    assert (tmp_path / "g/cgroup.freeze").read_text() == "0"


def test_a_version_1_group_is_never_frozen(tmp_path: Path) -> None:
    group = Cgroup(Hierarchy(version=CgroupVersion.V1, parents={"memory": tmp_path}), "g")
    (tmp_path / "g").mkdir()
    (tmp_path / "g/cgroup.freeze").write_text("0")
    with group.frozen():
        assert (tmp_path / "g/cgroup.freeze").read_text() == "0"
