"""KeyWrapper on all its adapters, and what is the key file's own: mode, owner, rotation, creation."""

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tenantry.engines.envelope.key_file import KeyFile, _write
from tenantry.engines.envelope.keyset import Keyset, KeyState
from tenantry.engines.envelope.keyset_wrapper import KeysetWrapper
from tenantry.engines.envelope.wrapping import KeyWrapper
from tenantry.foundation.errors import Fault, Gone

SECRET = b"CANARY-7f3a" * 10


@pytest.fixture(params=["key file", "keyset"])
def wrapper(request: pytest.FixtureRequest, tmp_path: Path) -> KeyWrapper:
    return KeyFile.ensure(tmp_path / "kms.key") if request.param == "key file" else KeysetWrapper(Keyset.create())


async def test_what_is_wrapped_unwraps_for_its_context_alone(wrapper: KeyWrapper) -> None:
    wrapped = await wrapper.wrap(SECRET, context=b"owner-1")
    assert await wrapper.unwrap(wrapped, context=b"owner-1") == SECRET
    assert wrapper.is_current(wrapped)
    assert b"CANARY" not in wrapped
    for content, context in ((wrapped, b"owner-2"), (wrapped[:-1], b"owner-1"), (b"", b"owner-1"), (SECRET, b"")):
        with pytest.raises(Fault) as refused:
            await wrapper.unwrap(content, context=context)
        assert refused.value.code == "wrapped_unreadable"
        assert "CANARY" not in f"{refused.value!r}{refused.value.fields}"


def test_the_file_is_made_once_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kms.key"
    former = os.umask(0)
    try:
        KeyFile.ensure(path)
    finally:
        os.umask(former)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    KeyFile.ensure(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


CREATE = """
import asyncio, sys
from pathlib import Path
from tenantry.engines.envelope.key_file import KeyFile, _write
from tenantry.engines.envelope.keyset import Keyset
Keyset.create()
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(KeyFile.ensure(Path(sys.argv[1])).wrap(b"x", context=b"c")).hex())
"""


async def test_processes_that_create_it_at_once_share_one_key(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    arguments = (sys.executable, "-c", CREATE, str(tmp_path / "kms.key"))
    processes = [await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    key_file = KeyFile.open(tmp_path / "kms.key")
    for answer, _ in answers:
        assert await key_file.unwrap(bytes.fromhex(answer.decode()), context=b"c") == b"x"


async def test_rotation_keeps_the_old_readable_until_retired_and_reaches_other_processes(tmp_path: Path) -> None:
    here, elsewhere = KeyFile.ensure(tmp_path / "kms.key"), KeyFile.open(tmp_path / "kms.key")
    old = await here.wrap(SECRET, context=b"c")
    here.rotate()
    new = await here.wrap(SECRET, context=b"c")
    assert [key.state for key in here.keys] == [KeyState.GRACE, KeyState.ACTIVE]
    assert (here.is_current(old), here.is_current(new)) == (False, True)
    assert await elsewhere.unwrap(new, context=b"c") == SECRET
    assert await elsewhere.unwrap(old, context=b"c") == SECRET
    here.retire(1)
    for keeper in (here, KeyFile.open(tmp_path / "kms.key")):
        with pytest.raises(Gone) as gone:
            await keeper.unwrap(old, context=b"c")
        assert gone.value.code == "key_destroyed"
        assert await keeper.unwrap(new, context=b"c") == SECRET
    assert stat.S_IMODE((tmp_path / "kms.key").stat().st_mode) == 0o600


def test_who_creates_it_second_does_not_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "kms.key"
    KeyFile.ensure(path)
    content = path.read_bytes()
    _write(path, Keyset.create(), replace=False)
    assert path.read_bytes() == content


def refusal(path: Path) -> str:
    with pytest.raises(Fault) as refused:
        KeyFile.open(path)
    assert refused.value.code == "key_file_unsafe"
    return str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o622, 0o700])
def test_a_mode_other_than_0600_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kms.key"
    KeyFile.ensure(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refusal(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_owner_of_the_file_or_its_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "kms.key"
    KeyFile.ensure(path)
    os.chown(path, 65534, -1)
    assert f"chown 0 {path}" in refusal(path)
    os.chown(path, 0, -1)
    os.chown(tmp_path, 65534, -1)
    assert f"chown 0 {tmp_path}" in refusal(path)


def test_links_folders_pipes_and_open_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kms.key"
    KeyFile.ensure(path)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "folder", "pipe"):
        refusal(tmp_path / name)
    tmp_path.chmod(0o777)
    assert "chmod go-w" in refusal(path)
    tmp_path.chmod(0o700)
    KeyFile.open(path)


def test_a_planted_link_is_not_created_through(tmp_path: Path) -> None:
    (tmp_path / "kms.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Fault):
        KeyFile.ensure(tmp_path / "kms.key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "CANARY", '{"envelope-key-file/1": "CANARY"}', "\x00"])
def test_an_absent_or_damaged_file_is_told_apart_and_never_made_anew(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kms.key"
    with pytest.raises(Fault) as absent:
        KeyFile.open(path)
    assert absent.value.code == "key_file_absent"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(Fault) as damaged:
        KeyFile.ensure(path)
    assert damaged.value.code == "key_file_damaged"
    assert "CANARY" not in f"{damaged.value!r}{damaged.value.__cause__}"
    assert path.read_text() == content


def test_its_repr_tells_no_key(tmp_path: Path) -> None:
    key_file: Any = KeyFile.ensure(tmp_path / "kms.key")
    assert repr(key_file) == f"<KeyFile {tmp_path / 'kms.key'}>"
