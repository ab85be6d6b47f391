from dataclasses import replace

import pytest

from tenantry.engines.jail.receipt import IsolationLevel, Receipt

SOUND = Receipt(
    backend="bubblewrap",
    backend_version="0.8.0",
    isolation=IsolationLevel.CGROUP,
    uid=200_000,
    gid=200_000,
    uid_map="0 200000 1",
    namespaces={"net": 1},
    unshared=("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"),
    capabilities={"CapEff": "0", "CapPrm": "0", "CapInh": "0", "CapAmb": "0", "CapBnd": "3f"},
    no_new_privs=True,
    seccomp_mode="2",
    interfaces=("lo",),
    cgroup_paths=("3:memory:/tenantry-jail/1-0123456789ab-1",),
)


def test_a_sound_sandbox_has_no_fault() -> None:
    assert SOUND.faults(supervisor_uid=0) == ()
    assert replace(SOUND, uid=1000).faults(supervisor_uid=1000) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 0},
        {"capabilities": {"CapEff": "200000", "CapPrm": "0"}},
        {"capabilities": {}},
        {"no_new_privs": False},
        {"seccomp_mode": "0"},
        {"seccomp_mode": ""},
        {"unshared": ("ipc", "mnt", "pid", "user", "uts")},
        {"unshared": ("ipc", "mnt", "net", "user", "uts")},
        {"unshared": ()},
        {"interfaces": ("eth0", "lo")},
        {"interfaces": ()},
        {"cgroup_paths": ()},
    ],
)
def test_each_missing_wall_is_a_fault(change: dict[str, object]) -> None:
    assert len(replace(SOUND, **change).faults(supervisor_uid=0)) >= 1  # type: ignore[arg-type]


def test_its_digest_is_that_of_its_content() -> None:
    assert SOUND.digest() == replace(SOUND).digest()
    assert SOUND.digest() != replace(SOUND, uid=200_001).digest()
    assert SOUND.as_record()["isolation"] == "cgroup"


#: Of a sandbox whose kernel is nobody's in a user namespace of its own, by a platform that shares the host's pids.
BEHIND = replace(
    SOUND,
    isolation=IsolationLevel.GVISOR,
    uid=65534,
    unshared=("ipc", "mnt", "net", "user", "uts"),
    sentry={
        "seccomp_mode": "2",
        "no_new_privs": "1",
        "CapInh": "240000",
        "CapPrm": "240000",
        "CapEff": "240000",
        "CapAmb": "240000",
    },
)
#: Of one whose kernel uses the host's sockets, in the host's user namespace, and may nothing there but trace its own.
NETWORKED = replace(
    BEHIND,
    uid=0,
    network="gateway",
    unshared=("ipc", "mnt", "net", "pid", "uts"),
    sentry=dict(BEHIND.sentry)
    | dict.fromkeys(("CapInh", "CapAmb"), "0")
    | dict.fromkeys(("CapPrm", "CapEff"), "80000"),
)


def test_a_kernel_of_its_own_that_is_confined_has_no_fault() -> None:
    assert BEHIND.faults(supervisor_uid=0) == ()
    assert NETWORKED.faults(supervisor_uid=0) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 0},
        {"capabilities": {"CapEff": "200000", "CapPrm": "0"}},
        {"capabilities": {}},
        {"no_new_privs": False},
        {"seccomp_mode": "0"},
        {"unshared": ("ipc", "mnt", "user", "uts")},
        {"unshared": ("ipc", "net", "user", "uts")},
        {"unshared": ("ipc", "mnt", "net", "uts")},
        {"interfaces": ("eth0", "lo")},
        {"cgroup_paths": ()},
        {"sentry": {}},
        {"sentry": dict(BEHIND.sentry) | {"seccomp_mode": "0"}},
        {"sentry": dict(BEHIND.sentry) | {"no_new_privs": "0"}},
    ],
)
def test_each_missing_wall_around_such_a_kernel_is_a_fault(change: dict[str, object]) -> None:
    assert len(replace(BEHIND, **change).faults(supervisor_uid=0)) >= 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"unshared": ("ipc", "mnt", "net", "uts")},
        {"sentry": dict(NETWORKED.sentry) | {"CapEff": "200000"}},
        {"sentry": dict(NETWORKED.sentry) | {"CapAmb": "1"}},
        {"sentry": {"seccomp_mode": "2", "no_new_privs": "1"}},
    ],
)
def test_a_kernel_with_a_right_on_the_host_is_a_fault(change: dict[str, object]) -> None:
    assert len(replace(NETWORKED, **change).faults(supervisor_uid=0)) >= 1  # type: ignore[arg-type]


def test_each_level_reaches_itself_and_those_below() -> None:
    levels = list(IsolationLevel)
    assert [level.value for level in levels] == ["rlimit", "cgroup", "gvisor"]
    for number, level in enumerate(levels):
        assert [level.reaches(each.value) for each in levels] == [number >= other for other in range(3)]
