"""Images that only root could walk to are mounted for the launcher: while something starts from them, a few longer."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.jail.test_image_root import programs_of_the_host

from tenantry.engines.jail.exec_types import ExecSpec
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import ImageRoot, Limits, Spec, Stream

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="as a user everything is reached as it lies")

MOST = 3


@pytest.fixture
async def jail(tmp_path: Path) -> AsyncIterator[Jail]:
    async with await Jail.open(tmp_path / "home") as opened:
        opened._exposures._most = MOST
        yield opened


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRoot]:
    place = tmp_path_factory.mktemp("imported")  # pytest's folders are 0700
    found = []
    for number in range(8):
        root = place / f"source-{number}"
        for path, content in {**programs_of_the_host("/bin/sh", "/bin/cat"), "marker": f"{number}\n".encode()}.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755)
        found.append(ImageStore(place / "images").import_directory(root))
    return found


def mounts(jail: Jail) -> int:
    return len(Path(f"/proc/{jail._launcher._process.pid}/mountinfo").read_text().splitlines())


async def said(jail: Jail, image: ImageRoot) -> str:
    told = bytearray()
    spec = Spec(image=image, command=("cat", "/marker"), limits=Limits(memory_mib=48, timeout_seconds=20))
    outcome, _ = await jail.run(spec, lambda stream, data: told.extend(data) if stream is Stream.STDOUT else None)
    assert outcome.exit_code == 0, outcome
    return told.decode()


async def test_however_many_images_ran_the_launcher_holds_a_few_and_each_runs_again(
    jail: Jail, images: list[ImageRoot]
) -> None:
    """Red once where all that had ever run stayed: each was in the way of every later start, of any tenant."""
    before = mounts(jail)
    for number, image in enumerate(images * 2):
        assert await said(jail, image) == f"{number % len(images)}\n"
    assert mounts(jail) <= before + MOST


async def test_one_that_lives_keeps_its_image_when_it_is_mounted_no_more(jail: Jail, images: list[ImageRoot]) -> None:
    spec = Spec(image=images[0], keep=True, limits=Limits(memory_mib=48, timeout_seconds=60))
    async with await jail.start(spec, lambda *_: None) as living:
        for image in images[1:]:
            await said(jail, image)
        run = await living.exec(ExecSpec(command=("cat", "/marker")))
        assert (await run.read()) is not None
        assert (await run.wait()).exit_code == 0
        await run.close()
