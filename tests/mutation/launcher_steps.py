"""Runs the launcher without each of its steps; prints which cases noticed, as JSON: `launcher_steps.py HOME FILE…`.

A program of its own because a launcher without its private namespace mounts where it stands: as root this process first
takes a mount namespace whose mounts are shared with the launcher's as badly as a host's may be, and with no other. It
also holds what a supervisor should not pass on, and might: groups, capabilities to inherit, a mask of signals, a umask.
"""

import ast
import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.mutation.mutants import QUICK_GROUPS, any_bubblewrap, be_impatient, open_cases

from tenantry.engines.jail import launch
from tenantry.engines.jail.escape import chain

#: What runs between a fork and the program; a step added to one of these is tried by itself.
FUNCTIONS = {
    "launcher.py": ("_configure", "_wait_seated", "_become"),
    "shelf.py": ("make_private", "bind"),
    "forks.py": (
        *("drop_to", "drop_capabilities", "give_up_gains", "join", "limit", "arrange", "close_all_but"),
        "reset_signals",
    ),
    "entering.py": (
        "_shut",
        "_go_in",
        "_be_unreadable",
        "_opened",
        "_join_namespaces",
        "_drop_capabilities",
        "_stand_at_the_door",
        "_terminal",
        "_go_to",
        "_filter",
    ),
}
#: What is seen of a step by programs that came in later alone.
GROUPS = {"entering.py": {"exec"}}
#: Cases that no step of theirs is behind: what they see is the sandbox's, and the filter is looked at before they run.
UNTOUCHED = ("exec.kernel.", "exec.mounts.", "exec.devices.", "exec.procfs.", "exec.network.")
LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_SHARED, _MNT_DETACH = 0x20000, 16384, 1 << 18, 1 << 20, 2
_CAPABILITY_VERSION_3, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_CHOWN = 0x20080522, 47, 2, 0


Step = tuple[str, list[ast.stmt], int]


def steps(tree: ast.Module, functions_of: tuple[str, ...]) -> Iterator[Step]:
    """Every statement in those functions that is a call and nothing else: its name, its block, and where in it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in functions_of]
    for function in functions:
        for node in ast.walk(function):
            for part in ("body", "orelse", "finalbody"):
                block = getattr(node, part, None)
                for at, statement in enumerate(block if isinstance(block, list) else []):
                    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                        yield f"{function.name}: {ast.unparse(statement)}", cast("list[ast.stmt]", block), at


def without(name: str, source: str, functions: tuple[str, ...]) -> str:
    tree = ast.parse(source)
    block, at = next((block, at) for step, block, at in steps(tree, functions) if step == name)
    block[at] = ast.copy_location(ast.Pass(), block[at])
    return ast.unparse(tree)


def checked(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def be_apart() -> None:
    """Take a mount namespace of one's own, and what only root can hold."""
    checked(LIBC.unshare(_CLONE_NEWNS))
    for flag in (_MS_PRIVATE, _MS_SHARED):
        checked(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | flag), None))
    os.setgroups([0, 4, 27])
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    checked(LIBC.capget(header, sets))
    sets[2], sets[5] = sets[1], sets[4]  # what is permitted may be inherited
    checked(LIBC.capset(header, sets))
    checked(LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_CHOWN, 0, 0))


def clear_away() -> None:
    """Unmount what a launcher without a namespace has left here, and share anew what it has not."""
    for shelf in chain._shelves(os.getpid()):
        checked(LIBC.umount2(shelf.encode(), _MNT_DETACH))
    checked(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_SHARED), None))


#: What the launcher is besides those.
BESIDE = ("containing.py",)


async def main(home: Path, files: list[str]) -> None:
    sources = {file: launch._PROGRAM.with_name(file).read_text() for file in (*FUNCTIONS, *BESIDE)}
    mutants = home / "mutants"
    mutants.mkdir()
    verdicts = {}
    with pytest.MonkeyPatch.context() as patch:
        be_impatient(patch)
        patch.setattr(launch, "_PROGRAM", mutants / "launcher.py")
        for file in files:
            functions = FUNCTIONS[file]
            for one, source in sources.items():
                (mutants / one).write_text(source)
            for name in ["", *dict.fromkeys(step for step, _, _ in steps(ast.parse(sources[file]), functions))]:
                (mutants / file).write_text(without(name, sources[file], functions) if name else sources[file])
                groups = GROUPS.get(file, QUICK_GROUPS)
                verdicts[name] = await open_cases(home, binary=any_bubblewrap(), groups=groups, but=UNTOUCHED)
                if os.geteuid() == 0:
                    clear_away()
    sys.stdout.write(json.dumps(verdicts))


if __name__ == "__main__":
    if os.geteuid() == 0:
        be_apart()
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
