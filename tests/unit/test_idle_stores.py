"""A server that uses no Redis, no bucket and no channel does not pay for their clients."""

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


SENDERS = """
import sys
from tenantry.entrypoints.notices import Senders
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.notification_settings import NotificationSettings

Senders(NotificationSettings(smtp_url="smtp://localhost", sender="a@b.example"), clock=SystemClock())
print(sorted({name.split(".")[0] for name in sys.modules} & {"apprise", "httpx", "requests"}))
"""


def test_what_sends_notices_is_loaded_by_the_first_of_them() -> None:
    ran = subprocess.run([sys.executable, "-c", SENDERS], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"


def test_embedded_caches_and_a_directory_load_no_client(tmp_path: object) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"


LOGINS = """
import sys
import tenantry.entrypoints.server
from tenantry.capabilities.identity.service import AccessTokens

AccessTokens(bytes(32))
print(sorted({name.split(".")[0] for name in sys.modules} & {"httpx", "httpcore", "joserfc"}))
"""


def test_what_logins_need_is_loaded_by_the_first_of_them() -> None:
    ran = subprocess.run([sys.executable, "-c", LOGINS], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"
