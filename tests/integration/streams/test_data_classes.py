"""In a workspace of metadata only, what was written is committed to and kept nowhere; in a full one it is sealed."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from tests.integration.streams.conftest import Home, House, Json

from tenantry.capabilities.audit.repository.events import insert_event
from tenantry.capabilities.audit.service import AuditService, make_event
from tenantry.capabilities.audit.types.classes import FreeText
from tenantry.entrypoints.addresses import cell_database
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.places import database_of
from tenantry.foundation.ids import Prefix, parse_id

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("streams")

SECRET = "rm-of-the-quarterly-plan"
ADDRESS = "198.51.100.77"
_TABLES = """
    select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')
"""


@asynccontextmanager
async def superuser(home: Home, *, isolation: str) -> "AsyncIterator[Connection]":
    own = database_of(home.region, home.tenant_id)
    database = own if isolation == "database_level" else cell_database(home.region)
    server = replace(EmbeddedPostgres(home.house.ground.home).superuser, database=database)
    connection = await asyncpg.connect(**dataclasses.asdict(server))
    try:
        yield connection
    finally:
        await connection.close()


async def found_in(connection: "Connection", word: str) -> list[str]:
    """List tables that have a row with the word anywhere: as text, in JSON, or in bytes."""
    tables = [row[0] for row in await connection.fetch(_TABLES)]
    asked = "select from {} t where position($1 in t::text) > 0 or position($2 in t::text) > 0"
    pair = (word, word.encode().hex())
    return [table for table in tables if await connection.fetchval(f"select exists ({asked.format(table)})", *pair)]


async def workspace_of(home: Home, mode: str) -> UUID:
    body = {"name": f"w {mode}", "settings": {"persistence_mode": mode}}
    answer = await home.owner.post("/workspaces", json=body)
    assert answer.status_code == 201, answer.text
    return parse_id(Prefix.WORKSPACE, answer.json()["id"])


async def record(home: Home, workspace: UUID | None, *, by: str) -> Json:
    """Record an event with all classes in it, in a transaction of an effect or by the group commit; shows it."""
    scope = replace(home.scope, workspace_id=workspace, ip=ADDRESS)
    told = {"program": SECRET, "name": "a name", "shoe_size": "38"}
    reason = FreeText(SECRET)
    if by == "trail":
        trail = home.house.runtime.trails[home.region]
        trail.note(scope, action="note.made", resource_type="note", resource_id="n", reason=reason, details=told)
        assert await trail.flush()
    else:
        async with home.house.parts.cells.session(scope) as session:
            audit = AuditService(session=session, clock=home.house.clock)
            await audit.record("note.made", resource_type="note", resource_id="n", reason=reason, details=told)
    return (await home.trail(action="note.made"))[0]


Shown = tuple[str | None, Json, str | None, list[str]]


def shown(event: Json) -> Shown:
    return event["reason"], event["details"], event["ip"], event["withheld"]


LEAN: Shown = (None, {"name": "a name", "shoe_size": "38"}, ADDRESS, ["details.program", "reason"])
WHOLE: Shown = (SECRET, {"name": "a name", "shoe_size": "38", "program": SECRET}, ADDRESS, [])


@pytest.mark.parametrize("isolation", ["row_level", "schema_level", "database_level"])
async def test_the_mode_of_the_workspace_says_whether_content_is_kept(isolation: str, house: House) -> None:
    """Red once where the openings of `full` were kept whatever the mode said."""
    home = await house.tenant(isolation=isolation)
    lean, full = await workspace_of(home, "metadata_only"), await workspace_of(home, "full")
    for by in ("session", "trail"):
        assert shown(await record(home, lean, by=by)) == LEAN, by
        assert shown(await record(home, full, by=by)) == WHOLE, by
        assert shown(await record(home, None, by=by)) == WHOLE, "a tenant's own event has no mode"
        assert shown(await record(home, UUID(int=1), by=by)) == LEAN, "an unknown workspace is as one of metadata only"
    async with superuser(home, isolation=isolation) as connection:
        assert await found_in(connection, SECRET) == []
        assert "tenantry.workspaces" in [
            name.replace(name.split(".")[0], "tenantry") for name in await found_in(connection, "w metadata_only")
        ], "the look itself finds what is there"
    await home.owner.aclose()


async def test_of_content_alone_nothing_lies_beside_an_event_in_metadata_only(acme: Home) -> None:
    workspace = await workspace_of(acme, "metadata_only")
    scope = replace(acme.scope, workspace_id=workspace)
    event = make_event(
        scope,
        clock=acme.house.clock,
        action="note.made",
        resource_type="note",
        resource_id="n",
        details={"program": SECRET},
    )
    async with acme.house.parts.cells.session(scope) as session:
        await insert_event(session, event)
    async with superuser(acme, isolation="row_level") as connection:
        row = await connection.fetchrow(
            "select canonical, sealed from tenantry.audit_events where event_id = $1", event.event_id
        )
    assert row is not None
    assert row["sealed"] is None
    assert b'"committed":{"details.program":"' in row["canonical"]


async def test_the_mode_is_that_of_the_moment_of_the_event(acme: Home) -> None:
    workspace = await workspace_of(acme, "full")
    assert shown(await record(acme, workspace, by="session")) == WHOLE
    name = (await acme.owner.get("/workspaces")).json()["items"][0]["id"]
    changed = await acme.owner.patch(f"/workspaces/{name}", json={"settings": {"persistence_mode": "metadata_only"}})
    assert changed.status_code == 200, changed.text
    assert shown(await record(acme, workspace, by="session")) == LEAN
    before, after = (await acme.trail(action="note.made"))[::-1]
    assert (shown(before), shown(after)) == (WHOLE, LEAN)


async def test_words_of_what_is_not_public_are_in_no_index(acme: Home) -> None:
    workspace = await workspace_of(acme, "full")
    await record(acme, workspace, by="session")
    following = acme.house.following()
    await acme.house.seal()
    while await following.index.look():
        await following.index.settled()
    async with superuser(acme, isolation="row_level") as connection:
        words = {
            row["word"]
            for row in await connection.fetch(
                "select word from tenantry.audit_words where tenant_id = $1", acme.tenant_id
            )
        }
    assert "w:name" in words
    assert not {"w:quarterly", "w:38", "w:198"} & words
    for word, most in (("quarterly", 0), ("name", 1)):
        assert len(await acme.trail(action="note.made", q=word)) == most
