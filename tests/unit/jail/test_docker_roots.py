"""The archive of an image that an engine is given."""

import asyncio
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tenantry.engines.jail.docker.roots import _archive


async def test_it_needs_no_two_threads_of_those_that_all_share(tmp_path: Path) -> None:
    """As many imports as there are threads would else wait for each other for ever."""
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with asyncio.timeout(20):
        packed = b"".join([piece async for piece in _archive(tmp_path, {"usr/bin/keeper": b"#!"})])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {"./large", "usr/bin/keeper"} <= set(archive.getnames())
