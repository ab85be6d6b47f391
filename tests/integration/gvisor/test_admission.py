"""What comes into a container under gVisor and is not what it should be is killed before its program begins."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.integration.jail.living import kept
from tests.prisons import Prison, opened_prison

from tenantry.engines.jail.gvisor import entry, steps, visiting
from tenantry.engines.jail.gvisor.stepper import IGNORE
from tenantry.engines.jail.types import Ending


@pytest.fixture(scope="module")
async def prison(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prison]:
    async with opened_prison("gvisor", tmp_path_factory.mktemp("home"), request) as opened:
        yield opened


def without(told: str, made: Callable[..., steps.Steps]) -> Callable[..., steps.Steps]:
    """Make the same steps, but for those of that name, which do nothing."""

    def weaker(*given: Any, **named: Any) -> steps.Steps:
        whole = made(*given, **named)
        nothing = (steps._NUMBERS["x86_64"]["close"], IGNORE, (999,), 0, "left out")
        whole._steps = [nothing if each[4] == told else each for each in whole._steps]
        return whole

    return weaker


@pytest.mark.parametrize(("told", "fault"), [("seccomp", "no seccomp filter is on"), ("capset", "it has capabilities")])
async def test_a_program_without_a_wall_is_not_started(
    prison: Any, monkeypatch: pytest.MonkeyPatch, told: str, fault: str
) -> None:
    monkeypatch.setattr(entry, "steps_of", without(told, steps.steps_of))
    ran = await prison.run("echo", "ran")
    assert (ran.outcome.ending, ran.out) == (Ending.NOT_STARTED, "")
    assert fault in ran.outcome.detail


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ("seccomp", "it has another seccomp filter"),
        ("capset", "it holds other capabilities"),
        ("limit 6", "it has other limits"),
    ],
)
async def test_a_program_that_is_put_in_without_a_wall_is_not_started(
    prison: Any, monkeypatch: pytest.MonkeyPatch, told: str, fault: str
) -> None:
    async with kept(prison) as room:
        assert (await room.sh("echo ran")).out == "ran\n"
        monkeypatch.setattr(visiting, "steps_of_exec", without(told, steps.steps_of_exec))
        done = await room.sh("echo ran")
        assert (done.outcome.ending, done.out) == (Ending.NOT_STARTED, "")
        assert fault in done.outcome.detail


async def test_whoever_kills_what_waits_ends_the_sandbox(prison: Any) -> None:
    async with kept(prison) as room:
        await room.sh("kill -9 -1")
        assert (await room.sandbox.wait()).ending in {Ending.EXITED, Ending.KILLED}
