"""Enters containers without each step of it; prints which cases noticed, as JSON.

`python containing_steps.py HOME SOCKET HARMLESS`: the steps named in the last, JSON too, are not tried but found.
A program of its own with a mount namespace of its own: what is left out may be what keeps a mount off the host.
"""

import ast
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.mutation.launcher_steps import UNTOUCHED, be_apart, steps, without
from tests.mutation.mutants import QUICK_GROUPS, be_impatient

from tenantry.engines.jail import launch
from tenantry.engines.jail.docker.backend import DockerBackend
from tenantry.engines.jail.escape.catalogue import CASES
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.selftest import selftest
from tenantry.foundation.errors import TenantryError

#: What runs between a fork and the program; a step added to one of these is tried by itself.
FUNCTIONS = (
    (
        "containing.py",
        (
            *("enter", "_watch", "_die_with", "live", "_enter", "_allow_no_more", "_furnish", "_make_room", "_filter"),
            *("_mount", "_detach"),
        ),
        QUICK_GROUPS,
    ),
    ("forks.py", ("drop_to", "drop_capabilities", "give_up_gains", "join", "limit", "reset_signals"), QUICK_GROUPS),
    ("containing.py", ("_show",), {"exec"}),
    ("entering.py", ("_go_in", "_join_container"), {"exec"}),
)
FILES = ("launcher.py", "shelf.py", "forks.py", "entering.py", "containing.py")
PATIENCE_SECONDS = 20


async def open_cases(home: Path, engine: Path, groups: set[str]) -> list[str]:
    """Enter containers as they now are; the codes of the cases that are open, or why nothing starts."""
    wanted = tuple(case for case in CASES if case.group in groups and not case.code.startswith(UNTOUCHED))
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            await DockerBackend.open(home, socket=engine, trial=False, spare=0) as backend,
        ):
            found = await selftest(backend, ImageStore(home / "images").host(), cases=wanted)
    except (TenantryError, OSError, TimeoutError) as error:
        return [f"docker.{type(error).__name__}"]
    return [result.code for result in found if not result.ok]


async def main(home: Path, engine: Path, harmless: set[str]) -> None:
    sources = {file: launch._PROGRAM.with_name(file).read_text() for file in FILES}
    mutants = home / "mutants"
    mutants.mkdir()
    verdicts: dict[str, list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        be_impatient(patch)
        patch.setattr(launch, "_PROGRAM", mutants / "launcher.py")
        for file, functions, groups in FUNCTIONS:
            for one, source in sources.items():
                (mutants / one).write_text(source)
            for name in ["", *dict.fromkeys(step for step, _, _ in steps(ast.parse(sources[file]), functions))]:
                if name in harmless:
                    verdicts[name] = []
                    continue
                (mutants / file).write_text(without(name, sources[file], functions) if name else sources[file])
                verdicts[name] = await open_cases(home, engine, groups)
    sys.stdout.write(json.dumps(verdicts))


if __name__ == "__main__":
    be_apart()
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), set(json.loads(sys.argv[3]))))
