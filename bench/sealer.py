"""One more sealer for the soak: `python -m bench.sealer HOME`. Seals as fast as it can until it is killed."""

import asyncio
import sys
from pathlib import Path

from bench.installation import REGION
from tenantry.capabilities.audit.service import seal, sign_grown
from tenantry.entrypoints.addresses import addresses_of
from tenantry.entrypoints.trails import make_notaries, make_witness
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.secrets import load_secrets
from tenantry.foundation.settings import load_settings


async def main(home: Path) -> None:
    settings, secrets, clock = load_settings(home=home), load_secrets(home), SystemClock()
    notary = make_notaries([REGION], settings=settings, secrets=secrets, clock=clock)[REGION]
    witness = make_witness(settings, REGION, clock)
    dsn = addresses_of(settings, secrets).cells[REGION].sealer
    pool = await open_pool(dsn, search_path="tenantry", max_size=1)
    while True:
        async with platform_session(pool) as connection:
            await seal(connection)
        async with platform_session(pool) as connection:
            await sign_grown(connection, notary=notary, witness=witness)
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
