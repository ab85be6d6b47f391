"""Without any one step by which a program is put into a container, a case is open or nothing starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
_CLOSED_ANYWAY = "close-on-exec, or it ends with its process"
_TOLD = "told when something failed; tests/contract/test_sandbox_backend.py hears it"
#: Steps that may be left out, and why the sandbox is the same without, or who else sees it.
HARMLESS_STEPS = {
    "enter: os.close(opener)": "the next step closes it too",
    "enter: forks.close_all_but(*held)": "as in the launcher: no other sandbox's barrier is kept open",
    "enter: os.close(asked)": _CLOSED_ANYWAY,
    "enter: os.close(telling)": _CLOSED_ANYWAY,
    "enter: os._exit(_NOT_STARTED)": "reached when it was not started alone",
    "enter: signal.set_wakeup_fd(-1)": "no signal of it wakes the launcher",
    "enter: os.chdir('/')": "the launcher stands there already",
    "enter: _die_with(parent)": "told again when the uid has changed; a moment between",
    "enter: _tell(status, **{'launch-error': repr(error), 'errno': getattr(error, 'errno', None) or 0})": _TOLD,
    "enter: os.kill(child, signal.SIGKILL)": "when the monitor fails alone; the room is swept then",
    "_die_with: os._exit(_NOT_STARTED)": "a parent that died within that moment",
    "_watch: _die_with(parent)": "tests/contract/test_sandbox_backend_death.py: a killed launcher",
    "_watch: os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)": "a race that test_sandbox_backend.py has lost: "
    "programs that cannot start",
    "_watch: os.close(telling)": _CLOSED_ANYWAY,
    "_watch: os._exit(0)": "the end of it",
    "_watch: _tell(status, **{'exit-code': code if code >= 0 else 128 - code})": "test_sandbox_backend.py reads it",
    "_allow_no_more: os.close(descriptor)": _CLOSED_ANYWAY,
    "_allow_no_more: os.close(proc)": _CLOSED_ANYWAY,
    "_furnish: _mount('none', '/', '', _MS_REC | _MS_PRIVATE)": "the engine has made them private",
    "_furnish: _mount('none', place, '', _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NOEXEC)": "the engine's /dev is "
    "nosuid, and nothing there is a program",
    "_furnish: _show(place, base64.b64decode(content), mode)": "test_sandbox_backend.py reads the resolver, and "
    "without its keeper nothing is kept",
    "_show: os.unlink(made)": "a second name, which is the sandbox's own",
    "_furnish: os.close(held)": _CLOSED_ANYWAY,
    "_make_room: os.mkdir(place, 448)": "test_sandbox_backend.py: secret files",
    "_mount: forks.checked(made, target)": "no mount fails here",
    "live: os._exit(_NOT_STARTED)": "reached when it was not started alone",
    "live: os.write(asking, b'x')": "what ran is then told as not started: test_sandbox_backend.py",
    "live: os.write(asking, b'!')": "the errno is told before",
    "live: _tell(self._status, **{'launch-error': str(error) or repr(error), 'errno': getattr(error, 'errno', 0) or "
    "0})": _TOLD,
    "live: _tell(self._status, **{'exec-errno': error.errno})": _TOLD,
    "_enter: _die_with(os.getppid())": "told again when the uid has changed",
    "_enter: forks.take_label(self._message['keeper'])": "this machine has no security labels",
    "_enter: sys.meta_path.clear()": "nothing is imported after it, and this keeps it so",
    "_enter: forks.drop_capabilities()": "all of them go at the exec, since uid 0 is not there",
    "_enter: os.umask(18)": "the launcher has it",
    "_enter: os._exit(_NOT_STARTED)": "when the monitor has died alone",
    "join: os.close(group)": _CLOSED_ANYWAY,
    "_go_in: forks.drop_to(message['uid'])": "the jail's alone: test_launcher.py",
    "_go_in: _join_namespaces(places)": "the same",
    "_go_in: _be_unreadable()": "tests/integration/jail/test_exec.py: nobody looks into it",
    "_join_container: forks.take_label(pid)": "this machine has no security labels",
    "_join_container: os.close(descriptor)": _CLOSED_ANYWAY,
}


@pytest.mark.timeout(400)
def test_no_step_into_a_container_can_be_left_out_unnoticed(tmp_path: Path, docker_socket: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'src'}"}
    program = str(Path(__file__).with_name("containing_steps.py"))
    words = [sys.executable, program, str(tmp_path), str(docker_socket), json.dumps(list(HARMLESS_STEPS))]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    verdicts: dict[str, list[str]] = json.loads(done.stdout)
    assert verdicts.pop("") == []
    assert len(verdicts) > 60
    assert {name for name, codes in verdicts.items() if not codes} == set(HARMLESS_STEPS), verdicts
