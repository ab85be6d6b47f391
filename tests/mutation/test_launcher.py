"""Without any one step of the launcher, bound of a process or setting of a cgroup, a case is open or nothing starts."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.mutation.mutants import QUICK_GROUPS, any_bubblewrap, be_impatient, open_cases

from tenantry.engines.jail.cgroups import Cgroup, find_hierarchy
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.parts import Parts
from tenantry.engines.jail.types import Limits

CHECKOUT = Path(__file__).parents[2]
_UNREADABLE = (
    "the kernel does it to whoever changes its identity, unless the machine is set otherwise; that nobody looks is in "
    "tests/integration/jail/test_exec.py"
)
#: Steps that may be left out, and why the sandbox is the same without.
HARMLESS_STEPS = {
    # Told twice or held twice: the other one is seen when it is missing.
    "_become: os.chdir('/')": "the launcher stands there already",
    "_become: forks.checked(forks.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))": "bwrap's "
    "--die-with-parent sets the same a moment later; what is killed within that moment is in "
    "tests/contract/test_sandbox_backend_death.py",
    "_configure: forks.checked(forks.LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))": "the same",
    "_configure: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))": "every sandbox gets the bound itself",
    "drop_to: drop_capabilities()": "all that is effective, permitted or ambient goes with uid 0, and bwrap drops what "
    "may be inherited",
    "drop_capabilities: checked(LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), "
    "(ctypes.c_uint32 * 6)()))": "the same",
    "_become: containing.enter(message, descriptors, null=self._null, seccomp=self._filter)": "bwrap enters nothing",
    "bind: _mount('none', target, '', _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)": "bwrap binds "
    "it read-only as well",
    # Close-on-exec as they are.
    "bind: os.close(source)": "it ends with the launcher",
    "join: os.close(group)": "it ends at the exec",
    "_become: os.close(filter_end)": "the same",
    "close_all_but: os.closerange(lowest, descriptor)": "the same; that no seat keeps another's barrier open is in "
    "tests/contract/test_sandbox_backend.py",
    # Not on the way to a program that runs.
    "_wait_seated: signal.set_wakeup_fd(-1)": "a seat has no signal to be woken by",
    "_wait_seated: os._exit(_NOT_LAUNCHED)": "reached when it was not launched alone",
    "_become: os._exit(_NOT_LAUNCHED)": "the same",
    "_become: os.write(status, json.dumps({'launch-error': repr(error), 'errno': number}).encode() + b'\\n')": "told "
    "when it was not launched alone",
    "_configure: self._tell(error=str(error), errno=error.errno)": "the same",
}
#: The same, of those that come in later.
HARMLESS_ENTRIES = {
    "_shut: signal.alarm(_SECONDS)": "it bounds how long one that hangs is there",
    "_shut: signal.set_wakeup_fd(-1)": "it has no signal to be woken by",
    "_shut: sys.meta_path.clear()": "it needs no module that is not there yet",
    "_shut: forks.close_all_but(*descriptors)": "close-on-exec as they are, and whoever starts in one is outside, "
    "which _go_to sees; without both of them exec.directory_of_a_descriptor is open",
    "_shut: _be_unreadable()": _UNREADABLE,
    "_go_in: _be_unreadable()": _UNREADABLE,
    "_go_in: _join_container(places, wanted['pid'])": "containers alone: test_containing.py",
    "_join_namespaces: _be_unreadable()": _UNREADABLE,
    "_be_unreadable: forks.checked(forks.LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))": _UNREADABLE,
    "_opened: alive.register(init, select.POLLIN)": "a dead one has no namespaces that could be opened",
    "_opened: os.close(init)": "it ends at the exec",
    "_join_namespaces: os.close(descriptor)": "the same",
    "_terminal: os.close(master)": "the same",
    "_drop_capabilities: forks.checked(forks.LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))": "a "
    "user namespace is entered without any",
    "_drop_capabilities: forks.checked(forks.LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), "
    "(ctypes.c_uint32 * 6)()))": "they end at the exec of one that is not uid 0",
    "_drop_capabilities: forks.checked(forks.LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))": "the launcher has it on",
}
#: The same for bounds and settings.
HARMLESS_BOUNDS = {resource.RLIMIT_CORE: "the launcher has it at 0 for itself and so for every child"}
HARMLESS_SETTINGS = {"cpu.cfs_period_us": "100 ms is what the kernel begins with"}


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's launcher leaves out half of them")
@pytest.mark.parametrize(
    ("files", "harmless"),
    [(["launcher.py", "shelf.py", "forks.py"], HARMLESS_STEPS), (["entering.py"], HARMLESS_ENTRIES)],
)
def test_no_step_of_the_launcher_can_be_left_out_unnoticed(
    tmp_path: Path, files: list[str], harmless: dict[str, str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'src'}"}
    words = [sys.executable, str(Path(__file__).with_name("launcher_steps.py")), str(tmp_path), *files]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    verdicts: dict[str, list[str]] = json.loads(done.stdout)
    assert verdicts.pop("") == []
    assert len(verdicts) > 30
    assert {name for name, codes in verdicts.items() if not codes} == set(harmless), verdicts


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    be_impatient(monkeypatch)
    return monkeypatch


async def unnoticed(home: Path, patch: pytest.MonkeyPatch, owner: type, method: str, keys: list[Any]) -> set[Any]:
    """Leave each pair out of what a method returns, by its first, and say which nobody missed."""
    whole: Callable[..., list[tuple[Any, Any]]] = getattr(owner, method)
    missed = set()
    for key in keys:
        patch.setattr(owner, method, lambda *given, key=key: [pair for pair in whole(*given) if pair[0] != key])
        if not await open_cases(home, binary=any_bubblewrap(), groups=QUICK_GROUPS):
            missed.add(key)
    patch.setattr(owner, method, whole)
    return missed


async def test_no_bound_of_a_process_can_be_left_out_unnoticed(tmp_path: Path, impatient: pytest.MonkeyPatch) -> None:
    kinds: list[int] = []
    whole = Jail._rlimits

    def noted(jail: Jail, parts: Parts) -> list[tuple[int, int]]:
        found = whole(jail, parts)
        kinds.extend(kind for kind, _ in found if kind not in kinds)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jail, "_rlimits", noted)
        assert await open_cases(tmp_path, binary=any_bubblewrap(), groups={"limits"}) == []
    assert len(kinds) >= 6
    assert await unnoticed(tmp_path, impatient, Jail, "_rlimits", kinds) == set(HARMLESS_BOUNDS)


async def test_no_setting_of_a_cgroup_can_be_left_out_unnoticed(tmp_path: Path, impatient: pytest.MonkeyPatch) -> None:
    hierarchy = find_hierarchy()
    if not hierarchy.directories:
        pytest.skip("no cgroup here")
    group = Cgroup(hierarchy, "mutant")
    group.create()
    names = [name for name, _ in group._settings(Limits())]
    group.remove()
    assert len(names) >= 3
    assert await unnoticed(tmp_path, impatient, Cgroup, "_settings", names) <= set(HARMLESS_SETTINGS)
