"""Where the records lie must not matter: as root below private directories, as an ordinary user in its own."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

import tenantry
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.types import Ending, Spec

USER = "tenantry-test"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

AS_USER = """
import asyncio, json, sys
from pathlib import Path
from tenantry.engines.jail.images import ImageStore
from tenantry.engines.jail.jail import Jail
from tenantry.engines.jail.probe import probe
from tenantry.engines.jail.selftest import selftest
from tenantry.engines.jail.types import InputFile, Spec

async def main():
    home = Path.home() / ".tenantry"
    said = []
    faults = [result.code for result in await probe(home) if result.fault]
    async with await Jail.open(home) as jail:
        image = ImageStore(home / "images").host()
        results = [result.code for result in await selftest(jail, image) if not result.ok]
        spec = Spec(image=image, command=("sh", "-c", "cat /inputs/a > /outputs/a"), inputs=(InputFile("a", b"hello"),))
        async with await jail.start(spec, print) as sandbox:
            await sandbox.wait()
            files = [item.read().decode() for item in await sandbox.artifacts(["outputs/*"])]
        burst = await asyncio.gather(*(jail.run(Spec(image=image, command=("true",)), print) for _ in range(30)))
    print(json.dumps([faults, results, files, [outcome.exit_code for outcome, _ in burst], sandbox.receipt.uid]))

asyncio.run(main())
"""


@pytest.fixture
def private_place(request: pytest.FixtureRequest) -> Iterator[Path]:
    place = Path(mkdtemp(prefix="tenantry-jail-test-", dir=request.param))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("private_place", ["/root", "/var/lib", "/tmp", "/srv", "/mnt", "/opt"], indirect=True)
async def test_any_home_will_do_for_root(private_place: Path) -> None:
    home = private_place / "home"
    home.mkdir(mode=0o700)
    async with await Jail.open(home) as jail:
        image = ImageStore(home / "images").host()
        outcome, receipt = await jail.run(Spec(image=image, command=("id", "-u")), lambda *_: None)
    assert (outcome.ending, outcome.exit_code) == (Ending.EXITED, 0)
    assert receipt is not None
    assert receipt.uid >= 200_000


@pytest.mark.parametrize("private_place", ["/var/lib"], indirect=True)
async def test_the_default_home_is_traversable_and_private_inside(private_place: Path) -> None:
    os.chmod(private_place, 0o711)
    async with await Jail.open(private_place) as jail:
        modes = {entry.name: oct(entry.stat().st_mode & 0o777) for entry in os.scandir(private_place)}
        assert modes == {"jail": "0o700", "images": "0o700"}
        assert jail.isolation in {"cgroup", "rlimit"}


async def test_a_supervisor_that_shows_its_files_to_nobody_has_sandboxes_too(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        async with await Jail.open(tmp_path) as jail:
            image = ImageStore(tmp_path / "images").host()
            assert (await jail.run(Spec(image=image, command=("cat", "/etc/hosts")), lambda *_: None))[0].exit_code == 0
    finally:
        os.umask(before)


async def test_an_image_is_reached_after_it_was_imported_again(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    store = ImageStore(tmp_path / "images")
    async with await Jail.open(tmp_path) as jail:
        for _ in range(2):
            image = store.host()
            assert (await jail.run(Spec(image=image, command=("true",)), lambda *_: None))[0].exit_code == 0
            store.remove(image.digest)


@pytest.fixture(scope="session")
def ordinary_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER], check=True)
        return pwd.getpwnam(USER)


def run_as(user: pwd.struct_passwd, home: Path, script: str) -> str:
    """Run a script with an interpreter any user may execute, and this checkout's packages."""
    python = next((path for path in (Path("/usr/bin/python3.11"), Path("/usr/bin/python3")) if path.is_file()), None)
    if python is None:
        pytest.skip("needs /usr/bin/python3")
    places = [str(Path(tenantry.__file__).parent.parent), sysconfig.get_path("purelib")]
    for place in (Path(path) for path in places):
        if any(not part.stat().st_mode & 0o001 for part in (place, *place.parents)):
            pytest.skip(f"{place} is below a private directory")
    answer = subprocess.run(
        [python, "-c", script],
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(places),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()[-1]


def test_an_ordinary_user_has_sandboxes_too(ordinary_user: pwd.struct_passwd) -> None:
    home = Path(mkdtemp(prefix="tenantry-user-"))
    try:
        os.chown(home, ordinary_user.pw_uid, ordinary_user.pw_gid)
        answer = run_as(ordinary_user, home, AS_USER)
    finally:
        shutil.rmtree(home)
    assert answer == f'[[], [], ["hello"], {[0] * 30}, {ordinary_user.pw_uid}]', answer
    assert sys.executable
