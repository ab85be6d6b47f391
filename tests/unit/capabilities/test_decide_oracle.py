"""`decide()` against an oracle that is slow and obviously right, on 100 000 worlds.

The oracle compiles nothing: for each question it walks over everything that gives or takes, says of each whether it
applies, and lets one denial outweigh everything. Where environment and labels are not told it tries all there could be.
"""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import pytest

from tenantry.capabilities.access.service.decide import compile_access, decide
from tenantry.capabilities.access.types import (
    BUILT_IN_ROLES,
    Access,
    Circumstances,
    Condition,
    Effect,
    Permission,
    Source,
)

PARTS: Final = 5
WORLDS: Final = 100_000 // PARTS
"""Of one part."""
SEED: Final = 20_26 if os.environ.get("CI") else random.SystemRandom().randrange(1 << 32)
PLACES: Final = (None, UUID(int=1), UUID(int=2))
PATHS: Final = {UUID(int=1): "teams/core/prod", UUID(int=2): "personal/ada"}
ENVIRONMENTS: Final = (None, "dev", "prod", "another")
LABELS: Final[tuple[dict[str, str], ...]] = ({}, {"tier": "gold"}, {"tier": "tin", "app": "web"})
PERMISSIONS: Final = (
    Permission.JOB_READ,
    Permission.JOB_CREATE,
    Permission.SANDBOX_READ,
    Permission.ROLE_ADMIN,
    Permission.WORKSPACE_ADMIN,
    Permission.TENANT_ADMIN,
    Permission.TENANT_READ,
    Permission.PLATFORM_ADMIN,
)
CONDITIONS: Final = (
    None,
    None,
    Condition(environments=("prod",)),
    Condition(environments=("dev", "prod"), paths=("teams",)),
    Condition(labels={"tier": ("gold", "tin"), "app": ("web",)}),
    Condition(paths=("teams/*/prod",)),
    Condition(paths=("teams/core/prod/deeper",)),
    Condition(paths=("personal", "agents")),
    Condition(environments=("dev",), labels={"tier": ("gold",)}),
)


@dataclass(frozen=True)
class World:
    """Layers of sources: the credential's, those of what it is a part of, and so on."""

    layers: tuple[tuple[Source, ...], ...]

    def compiled(self) -> Access:
        access: Access | None = None
        for sources in reversed(self.layers):
            access = compile_access(sources, within=access)
        assert access is not None
        return access


def worlds(part: int = 0) -> Iterator[World]:
    chance = random.Random(SEED + part)  # noqa: S311 - worlds are no secrets
    for _ in range(WORLDS):
        depth = chance.choice((1, 1, 1, 2, 3))
        yield World(tuple(tuple(_sources(chance)) for _ in range(depth)))


def _sources(chance: random.Random) -> Iterator[Source]:
    for number in range(chance.randrange(6)):
        yield Source(
            chance.choice(PLACES),
            f"source {number}",
            chance.sample(PERMISSIONS, chance.randrange(1, 4)),
            effect=Effect.DENY if chance.random() < 0.25 else Effect.ALLOW,
            condition=chance.choice(CONDITIONS),
            source=f"bnd_{number}",
            grant_id=UUID(int=number + 100) if chance.random() < 0.2 else None,
        )


def includes(held: Permission, asked: Permission) -> bool:
    if held is Permission.WORKSPACE_ADMIN and asked in BUILT_IN_ROLES["workspace-admin"]:
        return True
    if held is Permission.TENANT_ADMIN and asked in BUILT_IN_ROLES["tenant-admin"]:
        return True
    return held is asked


def applies(source: Source, asked: Permission, place: UUID | None, about: Circumstances) -> bool:
    if source.place is not None and source.place != place:
        return False
    if not any(includes(held, asked) for held in source.permissions):
        return False
    condition = source.condition
    if condition is None:
        return True
    if condition.paths and not any(_below(about.path, beginning) for beginning in condition.paths):
        return False
    if condition.environments and about.environment not in condition.environments:
        return False
    return all(about.labels.get(label) in values for label, values in condition.labels.items())


def _below(path: str | None, beginning: str) -> bool:
    if path is None:
        return False
    parts = path.split("/")
    for number, want in enumerate(beginning.split("/")):
        if number >= len(parts) or (want != "*" and parts[number] != want):
            return False
    return True


def oracle(layers: Sequence[Sequence[Source]], asked: Permission, place: UUID | None, about: Circumstances) -> bool:
    for sources in layers:
        found = [source for source in sources if applies(source, asked, place, about)]
        if not found or any(source.effect is Effect.DENY for source in found):
            return False
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_decide_says_what_the_oracle_says(part: int) -> None:
    told = [
        Circumstances(told=True, environment=environment, labels=labels)
        for environment in ENVIRONMENTS
        for labels in LABELS
    ]
    chance = random.Random(~SEED - part)  # noqa: S311 - nor are questions
    seen = dict.fromkeys(("allowed", "denied", "conditional"), 0)
    for world in worlds(part):
        access = world.compiled()
        asked, place = chance.choice(PERMISSIONS), chance.choice(PLACES)
        path = PATHS.get(place) if place else None
        some = chance.choice(told)
        about = Circumstances(path, True, some.environment, some.labels)
        decision = decide(access, asked, place, about)
        assert decision.allowed == oracle(world.layers, asked, place, about), (SEED, world, asked, place, about)
        assert not decision.conditional, (SEED, world, asked, place, about)
        _compare_untold(world, access, asked, place, told, seen)
    assert min(seen.values()) > WORLDS / 100, seen


def _compare_untold(
    world: World,
    access: Access,
    asked: Permission,
    place: UUID | None,
    told: list[Circumstances],
    seen: dict[str, int],
) -> None:
    """Before anything is told, allowed is what nothing could refuse, and refused for good what nothing could allow."""
    path = PATHS.get(place) if place else None
    before = decide(access, asked, place, Circumstances(path))
    where = (SEED, world, asked, place)
    if before.conditional:
        seen["conditional"] += 1
        assert not before.allowed, where
        return
    seen["allowed" if before.allowed else "denied"] += 1
    if any(source.condition for sources in world.layers for source in sources):
        possible = {
            oracle(world.layers, asked, place, Circumstances(path, True, one.environment, one.labels)) for one in told
        }
        assert possible == {before.allowed}, where


@pytest.mark.parametrize("effect", Effect)
def test_the_oracle_is_no_copy_it_finds_a_broken_decide(effect: Effect) -> None:
    """Left out of a world, a source that mattered makes the two disagree somewhere."""
    differ = 0
    for world in worlds():
        sources = world.layers[0]
        kept = tuple(source for source in sources if source.effect is not effect)
        if len(kept) == len(sources):
            continue
        broken = World((kept, *world.layers[1:])).compiled()
        for asked in PERMISSIONS:
            about = Circumstances("teams/core/prod", True, "prod", LABELS[1])
            differ += decide(broken, asked, PLACES[1], about).allowed != oracle(world.layers, asked, PLACES[1], about)
        if differ > 10:
            return
    pytest.fail("nothing was found")
