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
