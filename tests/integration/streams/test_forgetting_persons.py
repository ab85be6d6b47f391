"""One person is forgotten in the log: beside events that name them nothing lies any more, and every proof stands."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.integration.streams.conftest import Home, House, Json
from tests.integration.streams.test_data_classes import superuser
from tests.integration.streams.test_days import day_of, follow, stored, write_all

from tenantry.capabilities.audit.service import AuditService, forget_person, list_due_forgettings
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.capabilities.audit.types.forgettings import DueForgetting
from tenantry.entrypoints.forgetting import ForgettingRound
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.pool import open_pool
from tenantry.foundation.ids import Prefix, format_id, new_id, parse_id
from tenantry.foundation.scope import Actor, ActorType

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

pytestmark = pytest.mark.xdist_group("streams")

ADDRESS = "203.0.113.50"
STRATEGIES = ("row_level", "schema_level", "database_level")


def person() -> str:
    return format_id(Prefix.USER, new_id())


@asynccontextmanager
async def a_round(house: House, *, region: str = "us") -> AsyncIterator[ForgettingRound]:
    made = ForgettingRound(house.parts, house.parts.cells.get(region))
    try:
        yield made
    finally:
        await made.close()


async def act(home: Home, who: str, *, chain: tuple[str, ...] = (), resource: str = "n", **details: object) -> None:
    scope = replace(home.scope, actor=Actor(ActorType.USER, who, chain), ip=ADDRESS)
    async with home.house.parts.cells.session(scope) as session:
        audit = AuditService(session=session, clock=home.house.clock)
        await audit.record("note.made", resource_type="note", resource_id=resource, details=details)


async def ask(home: Home, who: str) -> Json:
    answer = await home.owner.post("/audit/forgettings", json={"principal": who})
    assert answer.status_code == 202, answer.text
    asked: Json = answer.json()
    return asked


async def shown(home: Home, request: Json) -> Json:
    answer = await home.owner.get(f"/audit/forgettings/{request['id']}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def worked(home: Home, request: Json, works: ForgettingRound) -> Json:
    """Let it be worked off, with all that waits for a place sealed before."""
    await home.house.seal()
    works.rounds.stir("tenantry")
    for place in await home.house.parts.directory.list_places("us"):
        works.rounds.stir(place)
    await works.pass_due()
    return await shown(home, request)


async def known(home: Home) -> dict[str, tuple[str | None, list[str]]]:
    """Give of each note, by its name, the address and what is withheld."""
    return {each["resource"]["id"]: (each["ip"], each["withheld"]) for each in await home.trail(action="note.made")}


async def bundle_of(home: Home, file: Path) -> int:
    await home.house.seal()
    await home.house.sign()
    answer = await home.owner.get("/audit/export")
    assert answer.status_code == 200, answer.text
    await asyncio.to_thread(file.write_bytes, answer.content)
    return verify_bundle(file).size


@pytest.mark.parametrize("isolation", STRATEGIES)
async def test_one_person_is_forgotten_wherever_an_event_names_them_and_nobody_else_is(
    isolation: str, house: House, tmp_path: Path
) -> None:
    home, who, other = await house.tenant(isolation=isolation), person(), person()
    await act(home, who, resource="acted", email="ada@example.com")
    await act(home, "key_1", chain=(who,), resource="on behalf")
    await act(home, other, resource=who)
    await act(home, other, resource="in details", principal=who)
    await act(home, other, resource="of another")
    size = await bundle_of(home, tmp_path / "before")
    checkpoint = (await home.owner.get("/audit/checkpoint")).json()
    async with a_round(house) as works:
        asked = await ask(home, who)
        assert (asked["state"], asked["forgotten"]) == ("open", 0)
        done = await worked(home, asked, works)
    assert (done["state"], done["forgotten"]) == ("done", 4)
    assert done["looked_at"] >= size
    gone = (None, ["ip"])
    assert await known(home) == {
        "acted": (None, ["details.email", "ip"]),
        "on behalf": gone,
        who: gone,
        "in details": gone,
        "of another": (ADDRESS, []),
    }
    verify_bundle(tmp_path / "before")
    assert await bundle_of(home, tmp_path / "after") > size
    assert verify_bundle(tmp_path / "after", witnessed=[checkpoint["note"].encode()]).witnessed == 1
    [told] = await home.trail(action="audit.person_forgotten")
    assert told["resource"] == {"type": "forgetting", "id": asked["id"]}
    assert told["details"] == {"principal": who, "count": 4}
    [requested] = await home.trail(action="audit.forget_requested")
    assert requested["details"]["principal"] == who
    assert requested["ip"], "what comes after the request is recorded as ever"
    await home.owner.aclose()


async def test_what_comes_later_is_recorded_as_ever_and_what_commits_late_from_before_is_not(acme: Home) -> None:
    who, house = person(), acme.house
    scope = replace(acme.scope, actor=Actor(ActorType.USER, who), ip=ADDRESS)
    async with a_round(house) as works:
        async with house.parts.cells.session(scope) as late:
            audit = AuditService(session=late, clock=house.clock)
            await audit.record("note.made", resource_type="note", resource_id="late")
            asked = await ask(acme, who)
            await act(acme, who, resource="after")
            assert (await worked(acme, asked, works))["state"] == "done"
        house.clock.ahead += timedelta(seconds=61)
        await worked(acme, asked, works)
        assert await known(acme) == {"late": (None, ["ip"]), "after": (ADDRESS, [])}
        house.clock.ahead += timedelta(hours=1)
        await worked(acme, asked, works)
        async with superuser(acme, isolation="row_level") as connection:
            row = await connection.fetchrow(
                "select due_at, forgotten from tenantry.audit_forgettings where tenant_id = $1", acme.tenant_id
            )
        assert row is not None
        assert (row["due_at"], row["forgotten"]) == (None, 1), "nothing is looked at for ever"


async def test_it_waits_for_events_from_before_that_have_no_place_yet(acme: Home) -> None:
    who = person()
    await act(acme, who, resource="unsealed")
    async with a_round(acme.house) as works:
        asked = await ask(acme, who)
        await works.pass_due()
        assert (await shown(acme, asked))["state"] == "open"
        acme.house.clock.ahead += timedelta(seconds=1)
        done = await worked(acme, asked, works)
    assert (done["state"], done["forgotten"]) == ("done", 1)


async def test_an_open_request_is_given_again_and_a_later_one_is_new(acme: Home) -> None:
    who = person()
    first = await ask(acme, who)
    assert (await ask(acme, who))["id"] == first["id"]
    assert len(await acme.trail(action="audit.forget_requested")) == 1
    async with a_round(acme.house) as works:
        await worked(acme, first, works)
    again = await ask(acme, who)
    assert again["id"] != first["id"]
    listed = (await acme.owner.get("/audit/forgettings")).json()["items"]
    assert [each["id"] for each in listed] == [again["id"], first["id"]]


@pytest.mark.parametrize(
    "wrong", ["", "usr_", "ada@example.com", "ws_01h455vb4pex5vsknk084sn02q", "usr_01h455vb4pex5vsknk084sn0", '"', "%"]
)
async def test_only_what_can_name_a_principal_is_looked_for(wrong: str, acme: Home) -> None:
    answer = await acme.owner.post("/audit/forgettings", json={"principal": wrong})
    assert answer.status_code == 422, answer.text


async def test_a_tenant_has_twenty_open_requests_at_most(acme: Home) -> None:
    for _ in range(20):
        await ask(acme, person())
    answer = await acme.owner.post("/audit/forgettings", json={"principal": person()})
    assert (answer.status_code, answer.json()["code"]) == (409, "forgetting_limit")


@asynccontextmanager
async def sealing(house: House) -> "AsyncIterator[Pool]":
    pool = await open_pool(house.parts.addresses.cells["us"].sealer, search_path="tenantry", max_size=4)
    try:
        yield pool
    finally:
        await pool.close()


def due(home: Home, request: Json) -> DueForgetting:
    return DueForgetting(home.tenant_id, parse_id(Prefix.FORGETTING, request["id"]))


async def test_pieces_that_race_or_die_forget_each_event_once(acme: Home) -> None:
    who, house = person(), acme.house
    for number in range(9):
        await act(acme, who if number % 2 else person(), resource=f"n{number}")
    asked = await ask(acme, who)
    await house.seal()

    async def piece(pool: "Pool", *, dies: bool = False) -> int:
        async with platform_session(pool) as connection:
            forgot = await forget_person(connection, due(acme, asked), now=house.clock.now(), limit=3)
            if dies:
                raise RuntimeError
            return forgot.events

    async with sealing(house) as pool:
        with pytest.raises(RuntimeError):
            await piece(pool, dies=True)
        assert (await shown(acme, asked))["looked_at"] == 0, "what did not commit has not been"
        found = [sum(await asyncio.gather(*(piece(pool) for _ in range(3)))) for _ in range(8)]
    assert sum(found) == 4
    assert [each for each, (ip, _) in sorted((await known(acme)).items()) if ip is None] == ["n1", "n3", "n5", "n7"]
    async with a_round(house) as works:
        done = await worked(acme, asked, works)
    assert (done["state"], done["forgotten"]) == ("done", 4)


async def test_one_that_dies_before_it_has_told_tells_once(acme: Home) -> None:
    who = person()
    await act(acme, who)
    asked = await ask(acme, who)
    async with a_round(acme.house) as works:
        done = await worked(acme, asked, works)
        async with superuser(acme, isolation="row_level") as connection:
            await connection.execute(
                """update tenantry.audit_forgettings set state = 'open', ended_at = null, due_at = requested_at
                   where tenant_id = $1""",
                acme.tenant_id,
            )
        again = await worked(acme, asked, works)
    assert (done["state"], again["state"], again["forgotten"]) == ("done", "done", 1)
    assert len(await acme.trail(action="audit.person_forgotten")) == 1


async def test_no_tenants_trouble_holds_up_anothers(acme: Home) -> None:
    house, who = acme.house, person()
    moving = await house.tenant()
    for home in (moving, acme):
        await act(home, who)
    asked = {home.id: await ask(home, who) for home in (moving, acme)}
    async with superuser(moving, isolation="row_level") as connection:
        await connection.execute(
            "update fence.tenant_state set mode = 'read_only' where tenant_id = $1", moving.tenant_id
        )
        async with a_round(house) as works:
            assert (await worked(acme, asked[acme.id], works))["state"] == "done"
            assert (await known(moving))["n"] == (ADDRESS, []), "what is being copied stays as it is"
            await connection.execute(
                "update fence.tenant_state set mode = 'active' where tenant_id = $1", moving.tenant_id
            )
            assert (await worked(moving, asked[moving.id], works))["state"] == "done"
    assert (await known(moving))["n"] == (None, ["ip"])
    await moving.owner.aclose()


async def held(home: Home) -> tuple[str, str]:
    workspace = (await home.owner.post("/workspaces", json={"name": "held"})).json()["id"]
    body = {"case_id": "CASE-7", "reason": "a lawsuit", "label": {"case": "7"}}
    answer = await home.owner.post(f"/workspaces/{workspace}/evidence/holds", json=body)
    assert answer.status_code == 201, answer.text
    return workspace, answer.json()["id"]


async def test_a_legal_hold_refuses_a_request_and_lets_an_open_one_wait(acme: Home) -> None:
    who, house = person(), acme.house
    await act(acme, who)
    asked = await ask(acme, who)
    workspace, hold = await held(acme)
    refused = await acme.owner.post("/audit/forgettings", json={"principal": person()})
    assert (refused.status_code, refused.json()["code"], refused.json()["cases"]) == (409, "legal_hold", ["CASE-7"])
    async with a_round(house) as works:
        assert (await worked(acme, asked, works))["state"] == "held"
        assert (await known(acme))["n"] == (ADDRESS, [])
        released = await acme.owner.delete(f"/workspaces/{workspace}/evidence/holds/{hold}")
        assert released.status_code == 200, released.text
        house.clock.ahead += timedelta(seconds=61)
        assert (await worked(acme, asked, works))["state"] == "done"
    assert (await known(acme))["n"] == (None, ["ip"])


async def test_the_days_that_said_it_are_written_anew_and_no_others(acme: Home) -> None:
    who, house = person(), acme.house
    house.clock.ahead -= timedelta(days=2)  # a day that nothing else comes to
    await act(acme, who, resource="named", email="ada@example.com")
    house.clock.ahead += timedelta(days=2)
    following = house.following()
    await follow(acme, following)
    day = (await day_of(acme))["day"]
    house.clock.ahead += timedelta(seconds=61)
    await write_all(house, following)
    await write_all(house, following)
    assert b"ada@example.com" in await stored(acme, day)
    async with superuser(acme, isolation="row_level") as connection:
        await connection.execute(
            """insert into tenantry.audit_days (tenant_id, day, first, last, events, written, size_bytes)
               values ($1, $2, 1, 1, 0, 1, 0)""",
            acme.tenant_id,
            date(2020, 1, 1),
        )
    async with a_round(house) as works:
        assert (await worked(acme, await ask(acme, who), works))["state"] == "done"
    await write_all(house, following)
    content = await stored(acme, day)
    assert b"ada@example.com" not in content
    [line] = [each for each in map(json.loads, content.splitlines()) if each["resource_id"] == "named"]
    assert (line["ip_address"], line["withheld"]) == (None, ["details.email", "ip"])
    async with superuser(acme, isolation="row_level") as connection:
        untouched = await connection.fetchval(
            "select epoch from tenantry.audit_days where tenant_id = $1 and day = $2", acme.tenant_id, date(2020, 1, 1)
        )
    assert untouched == 0


async def test_a_request_reaches_no_other_tenant_and_says_only_what_the_sealer_has_done(house: House) -> None:
    """Forged by the role of the application: for another tenant, as done, with a count. Red once without the fence."""
    mine, theirs, who = await house.tenant(), await house.tenant(), person()
    await act(theirs, who)
    insert = "insert into audit_forgettings (tenant_id, forgetting_id, principal, requested_at, requested_by{more})"
    values = "values ($1, $2, $3, now(), 'x'{more})"
    forged: list[tuple[UUID, str, str]] = [
        (theirs.tenant_id, "", ""),
        (mine.tenant_id, ", state", ", 'done'"),
        (mine.tenant_id, ", forgotten", ", 7"),
    ]
    for tenant, column, value in forged:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with house.parts.cells.session(mine.scope) as session:
                await session.execute(
                    f"{insert.format(more=column)} {values.format(more=value)}", tenant, new_id(), who
                )
    asked = await ask(mine, who)
    for statement in ("update audit_forgettings set forgotten = 7", "delete from audit_forgettings"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with house.parts.cells.session(mine.scope) as session:
                await session.execute(statement)
    async with a_round(house) as works:
        assert (await worked(mine, asked, works))["state"] == "done"
    assert (await known(theirs))["n"] == (ADDRESS, [])
    assert (await theirs.owner.get(f"/audit/forgettings/{asked['id']}")).status_code == 404
    for each in (mine, theirs):
        await each.owner.aclose()


async def test_the_sealer_forgets_and_changes_nothing_else(acme: Home) -> None:
    await act(acme, person())
    await ask(acme, person())
    async with sealing(acme.house) as pool:
        for statement in (
            "update audit_events set sealed = 'x'",
            "update audit_events set sealed = sealed",
            "update audit_events set canonical = canonical",
            "update audit_forgettings set principal = 'usr_01h455vb4pex5vsknk084sn02q'",
            "insert into audit_forgettings select * from audit_forgettings",
            "delete from audit_forgettings",
            "update audit_days set sha256 = null",
            "select sha256 from audit_days",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with platform_session(pool) as connection:
                    await connection.execute(statement)
        async with platform_session(pool) as connection:
            assert await list_due_forgettings(connection, now=acme.house.clock.now())


async def test_who_is_no_administrator_forgets_nobody_and_an_auditor_sees_the_requests(acme: Home) -> None:
    asked = await ask(acme, person())
    workspace = (await acme.owner.post("/workspaces", json={"name": "w"})).json()["id"]
    made = await acme.owner.post(f"/tenants/{acme.id}/keys", json={"name": "reads", "roles": ["auditor"]})
    assert made.status_code == 201, made.text
    auditor: httpx.AsyncClient = acme.house.client(made.json()["secret"])
    refused = await auditor.post("/audit/forgettings", json={"principal": person()})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    assert (await auditor.get(f"/audit/forgettings/{asked['id']}")).status_code == 200
    made = await acme.owner.post(f"/workspaces/{workspace}/keys", json={"name": "narrow", "roles": ["auditor"]})
    narrow = acme.house.client(made.json()["secret"])
    assert (await narrow.get("/audit/forgettings")).status_code == 403
    for each in (auditor, narrow):
        await each.aclose()
