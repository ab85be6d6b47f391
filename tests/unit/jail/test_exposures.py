import asyncio
from pathlib import Path

import pytest

from tenantry.engines.jail.exposures import Exposures, Key


class Launcher:
    def __init__(self) -> None:
        self.shown: list[Path] = []
        self.slowly = asyncio.Event()
        self.slowly.set()

    async def expose(self, path: Path) -> Path:
        await self.slowly.wait()
        self.shown.append(Path("/shelf") / path.name)
        return self.shown[-1]


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


@pytest.fixture
def exposures(launcher: Launcher) -> Exposures:
    return Exposures(expose=launcher.expose, conceal=launcher.shown.remove, most=2)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"image-{number}" for number in range(5)]
    for each in made:
        each.mkdir()
    return made


async def held(exposures: Exposures, path: Path, *, near: bool = False) -> Key:
    key, place = await exposures.hold(path, near=lambda: near)
    assert place == (path if near else Path("/shelf") / path.name)
    return key


async def test_the_last_ones_stay_and_older_ones_go(
    launcher: Launcher, exposures: Exposures, images: list[Path]
) -> None:
    for path in [*images, images[3]]:
        exposures.let_go([await held(exposures, path)])
    assert [each.name for each in launcher.shown] == ["image-3", "image-4"]
    exposures.let_go([await held(exposures, images[0])])
    assert [each.name for each in launcher.shown] == ["image-3", "image-0"], "the one that was used last stays"


async def test_one_that_something_starts_from_stays_however_old(
    launcher: Launcher, exposures: Exposures, images: list[Path]
) -> None:
    first = [await held(exposures, images[0]), await held(exposures, images[0])]
    for path in images[1:]:
        exposures.let_go([await held(exposures, path)])
    exposures.let_go(first[:1])
    assert [each.name for each in launcher.shown] == ["image-0", "image-4"]
    exposures.let_go([await held(exposures, images[3])])
    assert "image-0" in {each.name for each in launcher.shown}
    exposures.let_go(first[1:])
    exposures.let_go([await held(exposures, images[1])])
    assert "image-0" not in {each.name for each in launcher.shown}


async def test_what_is_reached_as_it_lies_is_not_concealed(
    launcher: Launcher, exposures: Exposures, images: list[Path]
) -> None:
    for path in images:
        exposures.let_go([await held(exposures, path, near=True)])
    assert launcher.shown == []


async def test_another_folder_at_the_same_path_is_another(exposures: Exposures, images: list[Path]) -> None:
    before = await held(exposures, images[0])
    images[0].rename(images[0].with_name("away"))
    images[0].mkdir()
    assert await held(exposures, images[0]) != before


async def test_one_whose_asker_has_gone_is_concealed_in_its_turn(
    launcher: Launcher, exposures: Exposures, images: list[Path]
) -> None:
    launcher.slowly.clear()
    asking = asyncio.create_task(held(exposures, images[0]))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    launcher.slowly.set()
    for path in images[1:]:
        exposures.let_go([await held(exposures, path)])
    assert [each.name for each in launcher.shown] == ["image-3", "image-4"]


async def test_one_that_is_not_there_is_an_error(exposures: Exposures, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await held(exposures, tmp_path / "none")
