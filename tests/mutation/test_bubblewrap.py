"""Without any one option of bubblewrap a case of the escape suite is open, or no sandbox starts."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path

import pytest
from tests.mutation.mutants import QUICK_GROUPS, any_bubblewrap, be_impatient, open_cases, options_of, replaced, without

from tenantry.engines.jail import jail as jail_module
from tenantry.engines.jail.bubblewrap import build_arguments
from tenantry.engines.jail.host_image import PYTHON_PLACE
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.selftest import with_python
from tenantry.engines.jail.types import InputFile, Spec

#: What may be left out, and why the sandbox is the same without.
HARMLESS = {
    "--perms of /workspace": "0755 is what bubblewrap gives a tmpfs by itself",
    "--perms of /inputs": "the same",
    "--perms of /run": "the same",
}
#: What may be bound writable: the launcher has bound it read-only before, where other uids reach it.
BOUND_BEFORE = {"--ro-bind /", f"--ro-bind /{PYTHON_PLACE}"}
AT_ONCE = 3
ABSENT: ContextVar[str] = ContextVar("ABSENT", default="")
WEAKENED: ContextVar[str] = ContextVar("WEAKENED", default="")
WRITABLE = {"--ro-bind": "--bind"}


def mutated(spec: Spec, *, exposed: dict[Path, Path]) -> bytes:
    whole = build_arguments(spec, exposed=exposed)
    return replaced(without(whole, ABSENT.get()), WRITABLE, WEAKENED.get())


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        be_impatient(patch)
        patch.setattr(jail_module, "build_arguments", mutated)
        yield tmp_path_factory.mktemp("home")


def names(home: Path) -> list[str]:
    image, python, env = with_python(ImageStore(home / "images").host())
    spec = Spec(image=image, command=(python,), env=env, inputs=(InputFile("a", b""),))
    return list(dict.fromkeys(name for name, _ in options_of(build_arguments(spec, exposed={}))))


async def judge(home: Path, variable: ContextVar[str], mutants: list[str]) -> dict[str, list[str]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> list[str]:
        async with gate:
            variable.set(name)
            return await open_cases(home, binary=any_bubblewrap(), groups=QUICK_GROUPS | {"secrets"})

    return dict(zip(mutants, await asyncio.gather(*map(one, mutants)), strict=True))


async def test_the_whole_list_leaves_no_case_open(home: Path) -> None:
    assert await judge(home, ABSENT, [""]) == {"": []}


async def test_no_option_can_be_left_out_unnoticed(home: Path) -> None:
    verdicts = await judge(home, ABSENT, names(home))
    unnoticed = {name for name, codes in verdicts.items() if not codes}
    assert unnoticed == set(HARMLESS), {name: codes[:3] for name, codes in verdicts.items()}


async def test_no_read_only_bind_can_become_a_writable_one_unnoticed(home: Path) -> None:
    verdicts = await judge(home, WEAKENED, [name for name in names(home) if name.startswith("--ro-bind")])
    assert len(verdicts) > 1
    assert {name for name, codes in verdicts.items() if not codes} <= BOUND_BEFORE
