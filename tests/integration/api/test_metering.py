"""What was used is recorded once, added to its hour once, and shown as it is: to whoever may see it."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.conftest import Installation, MakeTenant, Tenant
from tests.integration.api.conftest import OpenBeside, ShiftedClock, problem

from tenantry.capabilities.limits.service import MeteringService
from tenantry.capabilities.limits.types.metering import MOST_QUANTITY, Meter, Used
from tenantry.capabilities.tenants.service import load_plans
from tenantry.entrypoints.metering import make_metering_round
from tenantry.entrypoints.runtime import Parts, open_parts
from tenantry.foundation.clock import SystemClock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Invalid, Unauthenticated
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.scope import SYSTEM, TenantScope
from tenantry.interfaces.api.routes import metering as routes

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.one_strategy]

NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)


@pytest.fixture
async def parts(installation: Installation) -> AsyncIterator[Parts]:
    async with open_parts(installation.settings) as opened:
        yield opened


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant(region="us")


@pytest.fixture
def place(tenant: Tenant) -> str:
    return tenant.workspace()


def scope_of(tenant: Tenant) -> TenantScope:
    return TenantScope(tenant_id=parse_id(Prefix.TENANT, tenant.id), region=tenant.region, actor=SYSTEM)


def used(place: str, quantity: int = 5, subject: str = "gpt", **fields: Any) -> Used:
    workspace_id = parse_id(Prefix.WORKSPACE, place)
    return Used(**{"meter": Meter.TOKENS, "occurred_at": NOW, **fields}, workspace_id=workspace_id, quantity=quantity,
                subject=subject)  # fmt: skip


async def record(parts: Parts, tenant: Tenant, *events: Used) -> int:
    async with parts.cells.session(scope_of(tenant)) as session:
        return await metering(session).record(events)


def metering(session: TenantSession) -> MeteringService:
    return MeteringService(session=session, clock=SystemClock())


async def go_round(parts: Parts, tenant: Tenant, *, clock: ShiftedClock | None = None) -> None:
    """As a server does that has just started."""
    there = replace(parts, clock=clock) if clock else parts
    mine = make_metering_round(there, parts.cells.get(tenant.region), plans=load_plans())
    try:
        await mine.go_round()
    finally:
        await mine.rounds.close()


def shown(client: httpx.Client, path: str, **query: str) -> list[dict[str, Any]]:
    answer = client.get(f"{path}/metering", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def hours(tenant: Tenant, **query: str) -> dict[str, str]:
    """What the hours say, by meter; of one hour and workspace."""
    items = shown(tenant.owner, f"/tenants/{tenant.id}", **query)
    found = {each["meter"]: each["quantity"] for each in items}
    assert len(found) == len(items), items
    return found


async def stored_hours(parts: Parts, tenant: Tenant) -> dict[str, tuple[int, int]]:
    async with parts.cells.session(scope_of(tenant)) as session:
        rows = await session.fetch(
            "select meter, sum(quantity) as quantity, sum(events) as events from metering_hours group by meter"
        )
    return {row["meter"]: (int(row["quantity"]), int(row["events"])) for row in rows}


# --- recording -------------------------------------------------------------------------------------------------------


def test_a_job_is_metered_by_what_it_used(tenant: Tenant, place: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.2"
    job = tenant.owner.post(
        f"/workspaces/{place}/jobs", params={"wait": 60}, json={"command": ["sh", "-c", script]}
    ).json()
    assert job["status"] == "succeeded", job
    events = {each["meter"]: each for each in shown(tenant.owner, f"/workspaces/{place}", granularity="event")}
    assert set(events) == {"job_cpu_seconds", "job_memory_mib_seconds", "job_wall_seconds"}
    for each in events.values():
        assert (each["subject"], each["workspace"]) == (job["id"], place)
        assert each["principal"] == job["created_by"]
        assert each["occurred_at"] == job["finished_at"]
        assert each["attributes"] == {"status": "succeeded"}
        assert each["id"].startswith("mev_")
    took = job["usage"]
    assert abs(Decimal(events["job_cpu_seconds"]["quantity"]) - Decimal(str(took["cpu_seconds"]))) <= Decimal("0.0005")
    wall = Decimal(events["job_wall_seconds"]["quantity"])
    assert abs(wall - Decimal(str(took["wall_seconds"]))) <= Decimal("0.0005")
    assert wall > Decimal("0.2")
    held = Decimal(str(took["peak_memory_mib"])) * Decimal(str(took["wall_seconds"]))
    assert abs(Decimal(events["job_memory_mib_seconds"]["quantity"]) - held) <= Decimal("0.001")
    assert hours(tenant) == {meter: each["quantity"] for meter, each in events.items()}


def test_a_job_that_never_started_used_nothing(tenant: Tenant, place: str) -> None:
    path, queued = f"/workspaces/{place}/jobs", {"command": ["true"], "limits": {"cpus": 1}}
    absent = tenant.owner.post(path, params={"wait": 60}, json={"command": ["/no/such/program"]}).json()
    assert absent["reason"] == "not_started", absent
    # Suspended before a worker could have it: what is queued is cancelled, or never was.
    tenant.owner.post(path, json=queued)
    tenant.owner.post(f"/workspaces/{place}/suspend", json={"reason": "x"})
    # Looked at first: a job that had begun may be reported in between, and its event comes with its end.
    events = shown(tenant.owner, f"/tenants/{tenant.id}", granularity="event")
    ran = {each["id"] for each in tenant.owner.get(path).json()["items"] if each["usage"] and each["exit_code"] != 127}
    assert {each["subject"] for each in events} <= ran


async def test_what_is_recorded_twice_counts_once(parts: Parts, tenant: Tenant, place: str) -> None:
    assert await record(parts, tenant, used(place), used(place, 9)) == 1
    assert await record(parts, tenant, used(place, 7)) == 0
    again = [await record(parts, tenant, used(place, n, "other")) for n in range(3)]
    assert again == [1, 0, 0]
    several = await asyncio.gather(*(record(parts, tenant, used(place, 1, "raced")) for _ in range(8)))
    assert sorted(several) == [0] * 7 + [1]
    assert await asyncio.to_thread(hours, tenant) == {"tokens": "6"}
    await go_round(parts, tenant)
    assert await record(parts, tenant, used(place, 7)) == 0
    assert await asyncio.to_thread(hours, tenant) == {"tokens": "6"}


async def test_another_window_workspace_or_meter_is_another_event(parts: Parts, tenant: Tenant, place: str) -> None:
    other = tenant.workspace("other")
    told = [used(place), used(place, window="2"), used(other), used(place, meter=Meter.EGRESS_BYTES)]
    assert await record(parts, tenant, *told) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": -1},
        {"quantity": MOST_QUANTITY + 1},
        {"quantity": 1.0},
        {"quantity": True},
        {"quantity": float("nan")},
        {"subject": ""},
        {"subject": "a\nb"},
        {"subject": "a" * 201},
        {"occurred_at": NOW.replace(tzinfo=None)},
        {"occurred_at": NOW - timedelta(days=401)},
    ],
    ids=[
        "negative",
        "too-many",
        "decimal",
        "boolean",
        "nan",
        "of-nothing",
        "two-lines",
        "too-long",
        "naive",
        "too-old",
    ],
)
async def test_what_cannot_be_counted_is_refused(parts: Parts, acme: Tenant, dev: str, fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as error:
        await record(parts, acme, used(dev, **fields))
    assert error.value.code == "metering_event_invalid"


async def test_what_is_rolled_back_was_never_used(parts: Parts, tenant: Tenant, place: str) -> None:
    session = parts.cells.session(scope_of(tenant))
    assert await metering(session).record([used(place)]) == 1
    await session.rollback()
    assert await asyncio.to_thread(hours, tenant) == {}


# --- hours -----------------------------------------------------------------------------------------------------------


async def test_hours_are_the_sum_of_their_events_also_after_late_ones(parts: Parts, tenant: Tenant, place: str) -> None:
    """Read before a roll-up, between and after, they say the same."""
    await record(parts, tenant, *(used(place, n, f"s{n}") for n in range(1, 101)))
    assert await asyncio.to_thread(hours, tenant) == {"tokens": "5050"}
    await go_round(parts, tenant)
    assert await stored_hours(parts, tenant) == {"tokens": (5050, 100)}
    late = HOUR - timedelta(hours=3)
    await record(parts, tenant, used(place, 7, "late"), used(place, 1, "later", occurred_at=late))
    items = await asyncio.to_thread(shown, tenant.owner, f"/tenants/{tenant.id}")
    assert [(each["hour"][:13], each["quantity"], each["events"]) for each in items] == [
        (f"{late:%Y-%m-%dT%H}", "1", 1),
        (f"{HOUR:%Y-%m-%dT%H}", "5057", 101),
    ]
    for _ in range(3):
        await go_round(parts, tenant)
        assert await stored_hours(parts, tenant) == {"tokens": (5058, 102)}
    assert await asyncio.to_thread(shown, tenant.owner, f"/tenants/{tenant.id}") == items


async def test_a_roll_up_that_breaks_off_has_added_nothing(parts: Parts, tenant: Tenant, place: str) -> None:
    await record(parts, tenant, used(place, 3, "a"), used(place, 4, "b"))
    session = parts.cells.session(scope_of(tenant))
    await metering(session).roll_up()
    await session.rollback()
    assert await asyncio.to_thread(hours, tenant) == {"tokens": "7"}
    await go_round(parts, tenant)
    assert await stored_hours(parts, tenant) == {"tokens": (7, 2)}


async def test_several_that_roll_up_at_once_count_each_event_once(parts: Parts, tenant: Tenant, place: str) -> None:
    await record(parts, tenant, *(used(place, 1, f"s{n}", meter=Meter.CONNECTOR_CALLS) for n in range(300)))
    recording = [record(parts, tenant, used(place, 1, f"t{n}", meter=Meter.CONNECTOR_CALLS)) for n in range(40)]
    await asyncio.gather(*(go_round(parts, tenant) for _ in range(4)), *recording)
    await go_round(parts, tenant)
    assert await stored_hours(parts, tenant) == {"connector_calls": (340, 340)}


async def test_storage_is_sampled_once_an_hour(parts: Parts, tenant: Tenant, place: str) -> None:
    """By however many servers; the hours before are finished then."""
    tenant.owner.post(f"/workspaces/{place}/jobs", params={"wait": 60}, json={"command": ["echo", "hello"]})
    clock = ShiftedClock()
    clock.ahead = timedelta(hours=1, minutes=6)
    await asyncio.gather(*(go_round(parts, tenant, clock=clock) for _ in range(3)))
    until = (NOW + timedelta(hours=3)).isoformat()
    items = await asyncio.to_thread(
        shown, tenant.owner, f"/workspaces/{place}", meter="storage_byte_hours", until=until, granularity="event"
    )
    kept = tenant.owner.get(f"/tenants/{tenant.id}/usage").json()["storage_used_bytes"]
    ours = [each for each in items if each["occurred_at"][:13] == f"{clock.now() - timedelta(minutes=5):%Y-%m-%dT%H}"]
    assert [(each["quantity"], each["subject"]) for each in ours] == [(str(kept), place)]
    page = tenant.owner.get(f"/tenants/{tenant.id}/metering", params={"until": until}).json()
    assert page["rolled_up_to"] == ours[0]["occurred_at"]
    finished = {each["hour"]: each["finished"] for each in page["items"]}
    assert finished[ours[0]["occurred_at"]] is False
    assert all(known for hour, known in finished.items() if hour < page["rolled_up_to"])


async def test_old_events_are_forgotten_and_their_hours_stay(parts: Parts, tenant: Tenant, place: str) -> None:
    old = HOUR - timedelta(days=399)
    await record(parts, tenant, used(place, 11, "old", occurred_at=old), used(place, 1, "new"))
    clock = ShiftedClock()
    clock.ahead = timedelta(days=2)
    await go_round(parts, tenant, clock=clock)
    async with parts.cells.session(scope_of(tenant)) as session:
        left = await session.fetchval("select array_agg(subject) from metering_events where meter = 'tokens'")
    assert left == ["new"]
    assert (await stored_hours(parts, tenant))["tokens"] == (12, 2)
    span = {"since": (old - timedelta(days=1)).isoformat(), "until": (old + timedelta(days=1)).isoformat()}
    assert await asyncio.to_thread(lambda: hours(tenant, **span)) == {"tokens": "11"}


async def test_a_sum_knows_no_bound(parts: Parts, tenant: Tenant, place: str) -> None:
    await record(parts, tenant, *(used(place, MOST_QUANTITY, f"s{n}") for n in range(2000)))
    await go_round(parts, tenant)
    assert await asyncio.to_thread(hours, tenant) == {"tokens": str(MOST_QUANTITY * 2000)}


@pytest.mark.parametrize("isolation", ["schema_level", "database_level"])
async def test_a_tenant_takes_along_what_it_used(parts: Parts, make_tenant: MakeTenant, isolation: str) -> None:
    """To a place of its own, and back: added up in each, and what was recorded before is known."""
    tenant = make_tenant(region="us")
    place = tenant.workspace()
    await record(parts, tenant, used(place, 1, "a"))
    await go_round(parts, tenant)
    await record(parts, tenant, used(place, 2, "b"))
    await moved(parts, tenant, isolation)
    assert await record(parts, tenant, used(place, 9, "a"), used(place, 9, "b"), used(place, 4, "c")) == 1
    await go_round(parts, tenant)
    assert await stored_hours(parts, tenant) == {"tokens": (7, 3)}
    await moved(parts, tenant, "row_level")
    await go_round(parts, tenant)
    assert await stored_hours(parts, tenant) == {"tokens": (7, 3)}
    assert await asyncio.to_thread(hours, tenant) == {"tokens": "7"}


async def moved(parts: Parts, tenant: Tenant, isolation: str) -> None:
    path = f"/tenants/{tenant.id}"
    operation = tenant.installation.platform.post(f"{path}/move", json={"isolation": isolation, "grace_seconds": 0})
    for _ in range(600):
        found = tenant.owner.get(f"{path}/operations/{operation.json()['id']}").json()
        if found["status"] in ("succeeded", "failed"):
            break
        await asyncio.sleep(0.1)
    assert found["status"] == "succeeded", found
    parts.cells.get(tenant.region).places.forget(scope_of(tenant).tenant_id)  # a server hears of it


# --- what may not be -------------------------------------------------------------------------------------------------


async def test_what_is_recorded_can_be_changed_by_nobody(parts: Parts, tenant: Tenant, place: str) -> None:
    await record(parts, tenant, used(place))
    for change in ("quantity = 0", "occurred_at = now()", "subject = 'x'", "workspace_id = gen_random_uuid()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with parts.cells.session(scope_of(tenant)) as session:
                await session.execute(f"update metering_events set {change}")


async def test_other_tenants_see_and_count_nothing(parts: Parts, make_tenant: MakeTenant) -> None:
    mine, theirs = make_tenant(region="us"), make_tenant(region="us")
    places = {mine.id: mine.workspace(), theirs.id: theirs.workspace()}
    await record(parts, mine, used(places[mine.id], 5))
    with pytest.raises(asyncpg.PostgresError):  # another's workspace is none of one's own
        await record(parts, theirs, used(places[mine.id], 6, "stolen"))
    await go_round(parts, mine)
    assert await asyncio.to_thread(hours, theirs) == {}
    assert await asyncio.to_thread(hours, mine) == {"tokens": "5"}
    problem(theirs.owner.get(f"/tenants/{mine.id}/metering"), 403, "tenant_mismatch")
    problem(theirs.owner.get(f"/workspaces/{places[mine.id]}/metering"), 404, "not_found")
    async with parts.cells.session(scope_of(theirs)) as session:
        for table in ("metering_events", "metering_hours"):
            assert await session.fetchval(f"select count(*) from {table}") == 0


async def test_a_workspace_shows_its_own_and_the_tenant_all(parts: Parts, tenant: Tenant, place: str) -> None:
    other = tenant.workspace("other")
    await record(parts, tenant, used(place, 1), used(other, 2))
    for granularity in ("hour", "event"):

        def read(path: str, client: httpx.Client, granularity: str = granularity) -> list[tuple[str, str]]:
            items = shown(client, path, granularity=granularity)
            return sorted((each["workspace"], each["quantity"]) for each in items)

        assert read(f"/workspaces/{other}", tenant.owner) == [(other, "2")]
        assert read(f"/workspaces/{other}", tenant.as_role("viewer", other)) == [(other, "2")]
        assert read(f"/tenants/{tenant.id}", tenant.owner) == sorted([(place, "1"), (other, "2")])
        assert read(f"/tenants/{tenant.id}", tenant.installation.platform) == sorted([(place, "1"), (other, "2")])
    problem(tenant.as_role("viewer", other).get(f"/tenants/{tenant.id}/metering"), 403, "permission_missing")
    problem(tenant.as_role("ci", other).get(f"/workspaces/{other}/metering"), 403, "permission_missing")
    problem(tenant.as_role("viewer", other).get(f"/workspaces/{place}/metering"), 404, "not_found")


# --- questions and forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "metering_span_invalid"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "metering_span_invalid"),
        ({"since": "2024-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "metering_span_invalid"),
        (
            {"since": "2026-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z", "granularity": "event"},
            "metering_span_invalid",
        ),
        ({"until": "0001-01-01T00:00:00Z"}, "metering_span_invalid"),
        ({"since": "2026-01-01T00:00:00"}, "invalid_request"),
        ({"since": "1767225600"}, "invalid_request"),
        ({"meter": "x"}, "invalid_request"),
        ({"granularity": "day"}, "invalid_request"),
        ({"format": "xml"}, "invalid_request"),
        ({"format": "cloudevents", "granularity": "hour"}, "metering_format_invalid"),
        ({"format": "csv", "cursor": "x"}, "metering_format_invalid"),
        ({"cursor": "x"}, "cursor_invalid"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_said_why(acme: Tenant, query: dict[str, str], code: str) -> None:
    problem(acme.owner.get(f"/tenants/{acme.id}/metering", params=query), 422, code)


@pytest.mark.parametrize("granularity", ["hour", "event"])
async def test_pages_together_are_the_whole(parts: Parts, tenant: Tenant, place: str, granularity: str) -> None:
    """Of what is rolled up and what is not."""
    other = tenant.workspace("other")

    def events(name: str) -> list[Used]:
        return [
            used(where, 1, f"{name}{n}", meter=meter, occurred_at=NOW - timedelta(hours=n % 9))
            for n in range(60)
            for where in (place, other)
            for meter in (Meter.TOKENS, Meter.EGRESS_BYTES)
        ]

    await record(parts, tenant, *events("a"))
    await go_round(parts, tenant)
    await record(parts, tenant, *events("b"))
    path, query = f"/tenants/{tenant.id}/metering", {"granularity": granularity, "limit": "7"}

    def walk() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = tenant.owner.get(path, params=query | cursor).json()
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    found = await asyncio.to_thread(walk)
    assert len(found) == (36 if granularity == "hour" else 480)
    assert sum(int(each["quantity"]) for each in found) == 480
    order = [str(each["hour" if granularity == "hour" else "occurred_at"]) for each in found]
    assert order == sorted(order)


async def test_csv_is_whole_and_no_formula(parts: Parts, tenant: Tenant, place: str) -> None:
    formulas = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", " =1+1", '=1","x', "plain"]
    await record(parts, tenant, *(used(place, 1, each, principal_id=each) for each in formulas))
    answer = tenant.owner.get(f"/workspaces/{place}/metering", params={"format": "csv", "granularity": "event"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="metering.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert list(rows[0]) == [
        *("id", "occurred_at", "workspace", "meter", "quantity", "unit", "subject", "principal", "recorded_at")
    ]
    assert {row["subject"].removeprefix("'") for row in rows} == set(formulas)
    for row in rows:
        for cell in row.values():
            assert cell.lstrip()[:1] not in {"=", "+", "-", "@"}, row
    (hour,) = csv.DictReader(
        io.StringIO(tenant.owner.get(f"/workspaces/{place}/metering", params={"format": "csv"}).text)
    )
    assert (hour["meter"], hour["quantity"], hour["unit"], hour["events"]) == ("tokens", "7", "tokens", "7")


async def test_an_export_goes_on_over_many_batches(parts: Parts, tenant: Tenant, place: str) -> None:
    await record(parts, tenant, *(used(place, 1, f"s{n}") for n in range(2500)))
    query = {"format": "csv", "granularity": "event"}
    for client in (tenant.owner, tenant.installation.platform):
        text = (await asyncio.to_thread(client.get, f"/tenants/{tenant.id}/metering", params=query)).text
        assert len({row["subject"] for row in csv.DictReader(io.StringIO(text))}) == 2500
    batch = tenant.owner.get(f"/tenants/{tenant.id}/metering", params={"format": "cloudevents"}).json()
    assert len({each["id"] for each in batch}) == 2500


async def test_who_is_revoked_gets_no_further_batch(
    parts: Parts, tenant: Tenant, place: str, open_beside: OpenBeside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(parts, tenant, *(used(place, 1, f"s{n}") for n in range(10)))
    made = tenant.owner.post(f"/workspaces/{place}/keys", json={"name": "reader", "roles": ["viewer"]}).json()
    monkeypatch.setattr(routes, "_BATCH", 3)
    batches: list[int] = []
    path, query = f"/workspaces/{place}/metering", {"format": "csv", "granularity": "event"}
    async with open_beside() as served, served.client(made["secret"]) as client:
        whole = await client.get(path, params=query)
        assert len(whole.text.splitlines()) == 11
        original = MeteringService.list_events

        async def revoking(self: MeteringService, *args: Any, **more: Any) -> Any:
            found = await original(self, *args, **more)
            batches.append(len(found))
            if len(batches) == 2:
                await asyncio.to_thread(tenant.owner.delete, f"/workspaces/{place}/keys/{made['id']}")
                for _ in range(200):
                    if (await client.get("/me")).status_code == 401:
                        break
                    await asyncio.sleep(0.02)
            return found

        monkeypatch.setattr(MeteringService, "list_events", revoking)
        with pytest.raises(Unauthenticated):
            await client.get(path, params=query)
    assert batches == [4, 4]


async def test_events_are_cloudevents(parts: Parts, tenant: Tenant, place: str) -> None:
    path, query = f"/workspaces/{place}/metering", {"format": "cloudevents"}
    assert (await asyncio.to_thread(tenant.owner.get, path, params=query)).json() == []
    event = used(place, 1500, "job_x", meter=Meter.JOB_CPU_SECONDS, attributes={"status": "failed"})
    await record(parts, tenant, event)
    answer = await asyncio.to_thread(tenant.owner.get, path, params=query)
    assert answer.headers["content-type"] == "application/cloudevents-batch+json"
    assert json.loads(answer.text) == [
        {
            "specversion": "1.0",
            "id": format_id(Prefix.METER_EVENT, event.event_id),
            "source": f"/tenants/{tenant.id}/workspaces/{place}",
            "type": "tenantry.metering.job_cpu_seconds",
            "subject": "job_x",
            "time": NOW.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": {"quantity": "1.500", "unit": "seconds", "principal": None, "attributes": {"status": "failed"}},
        }
    ]
    assert isinstance(event.event_id, UUID)
