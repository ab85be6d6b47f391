"""An imported tenant's images count for what their roots take here, whatever the archive says of them."""

import asyncio

import asyncpg
from tests.conftest import Installation
from tests.integration.tenancy.ground import MakeInhabited, export, send_archive, superuser_dsn
from tests.integration.tenancy.test_exports import until_imported
from tests.integration.tenancy.test_hostile_archives import Told, lying

from tenantry.engines.jail.tree import stored_bytes


def _of_images(rows: list[Told]) -> None:
    for row in rows:
        if row["kind"] == "image":
            row["used"] = "1"


def _none(rows: list[Told]) -> None:
    for row in rows:
        row["size_bytes"] = "1"


async def test_an_image_counts_for_its_root_and_not_for_what_its_rows_say(
    make_inhabited: MakeInhabited, elsewhere: Installation
) -> None:
    inhabited = await asyncio.to_thread(make_inhabited)
    exported = await asyncio.to_thread(export, inhabited)
    archive = await lying(elsewhere, exported.archive, "images", _none)
    archive = await lying(elsewhere, archive, "reservations", _of_images)
    answer = send_archive(elsewhere, archive, exported.key)
    assert (await asyncio.to_thread(until_imported, elsewhere, answer.json()))["status"] == "succeeded"
    connection = await asyncpg.connect(superuser_dsn(elsewhere, "tenantry_us"))
    try:
        rows = await connection.fetch(
            """select i.digest, i.size_bytes, r.used, r.state from tenantry.images i
               join tenantry.reservations r on (r.tenant_id, r.reservation_id) = (i.tenant_id, i.image_id)
               where i.tenant_id = $1""",
            inhabited.tenant_id,
        )
    finally:
        await connection.close()
    assert len(rows) == 1
    for row in rows:
        place = elsewhere.home / "us" / inhabited.tenant.id / "images" / row["digest"].replace(":", "/") / "rootfs"
        assert row["size_bytes"] == row["used"] == stored_bytes(place) > 1
        assert row["state"] == "settled"
