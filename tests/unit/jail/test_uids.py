import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.engines.jail.errors import JailUnavailable
from tenantry.engines.jail.uids import UidPool


def test_no_uid_is_given_twice(tmp_path: Path) -> None:
    pool = UidPool(directory=tmp_path, first=300_000, count=10)
    assert len({pool.acquire() for _ in range(10)}) == 10
    with pytest.raises(JailUnavailable) as refused:
        pool.acquire()
    assert refused.value.code == "uids_exhausted"
    pool.close()


def test_two_supervisors_share_no_uid(tmp_path: Path) -> None:
    one, two = (UidPool(directory=tmp_path, first=300_000, count=40) for _ in range(2))
    first, second = {one.acquire() for _ in range(20)}, {two.acquire() for _ in range(20)}
    assert not first & second
    one.close()
    two.close()


def test_a_uid_given_back_is_used_again_last_of_all(tmp_path: Path) -> None:
    pool = UidPool(directory=tmp_path, first=300_000, count=3)
    used = pool.acquire()
    pool.release(used)
    assert [pool.acquire() for _ in range(3)][-1] == used
    pool.close()


def test_a_dead_supervisors_uids_are_free_again(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from tenantry.engines.jail.uids import UidPool;"
        "pool = UidPool(directory=pathlib.Path(sys.argv[1]), first=300000, count=1); pool.acquire(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    pool = UidPool(directory=tmp_path, first=300_000, count=1)
    assert pool.acquire() == 300_000
    pool.close()
