"""A server that uses neither Redis nor a bucket does not pay for their clients."""

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from pathlib import Path
from tenantry.foundation.caches.factory import open_caches
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.objects.factory import open_objects

async def main():
    await open_caches(None, SystemClock()).ready()
    await open_objects(root=Path(sys.argv[1]), bucket=None).close()

asyncio.run(main())
print(sorted({name.split(".")[0] for name in sys.modules} & {"redis", "hiredis", "boto3", "botocore", "tink"}))
"""


def test_embedded_caches_and_a_directory_load_no_client(tmp_path: object) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"
