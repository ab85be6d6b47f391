"""One embedded PostgreSQL for the folder, one schema a test, and the two roles with exactly the documented rights."""

import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from tenantry.engines.fairqueue import (
    Cancellation,
    Claim,
    FairQueue,
    Levels,
    Names,
    Ticket,
    application_grants,
    ddl,
    dispatcher_grants,
)
from tenantry.foundation.database.embedded import ConnectionParts, EmbeddedPostgres

if TYPE_CHECKING:
    Link: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WORKER: Final = uuid4()
_numbers = itertools.count(1)


@dataclass
class Rig:
    """A queue with one connection for each role; `application` is fenced by the setting `queue.first`."""

    queue: FairQueue
    application: "Link"
    dispatcher: "Link"
    superuser: "Link"
    parts: dict[str, ConnectionParts]
    opened: list["Link"] = field(default_factory=list)

    async def connect(self, role: str) -> "Link":
        link: Link = await asyncpg.connect(**asdict(self.parts[role]), server_settings={"jit": "off"})
        self.opened.append(link)
        return link

    async def bind(self, first: UUID) -> None:
        await self.application.execute("SELECT set_config('queue.first', $1, false)", str(first))

    async def put(
        self, levels: Levels, count: int = 1, *, estimate: float = 1.0, slots: int = 1, labels: tuple[str, ...] = ()
    ) -> list[UUID]:
        await self.bind(levels[0])
        entries = [uuid4() for _ in range(count)]
        async with self.application.transaction():
            for entry in entries:
                await self.queue.enqueue(
                    self.application, levels=levels, entry=entry, estimate_seconds=estimate, slots=slots, labels=labels
                )
        return entries

    async def take(
        self,
        free: int = 1,
        *,
        worker: UUID = WORKER,
        labels: tuple[str, ...] = (),
        capacity: int = 64,
        lease: float = 60,
    ) -> list[Claim]:
        return await self.queue.claim(
            self.dispatcher, worker=worker, free_slots=free, capacity=capacity, labels=labels, lease_seconds=lease
        )

    async def end(self, ticket: Ticket, used: float = 1.0) -> bool:
        await self.bind(ticket.first)
        return await self.queue.finish(self.application, ticket=ticket, used_slot_seconds=used)

    async def cancel(self, first: UUID, entry: UUID) -> Cancellation:
        await self.bind(first)
        return await self.queue.cancel(self.application, first=first, entry=entry)

    async def share(self, *keys: UUID, weight: float = 1.0, most: int | None = None) -> bool:
        await self.bind(keys[0])
        named = (keys[0],) if len(keys) == 1 else (keys[0], keys[1])
        return await self.queue.set_share(self.application, keys=named, weight=weight, most_running=most)

    async def count(self, what: str) -> int:
        """Count by the superuser: `fronts WHERE queued > 0`."""
        return int(await self.superuser.fetchval(self.fill("SELECT count(*) FROM __schema__.") + what))

    def fill(self, template: str) -> str:
        return self.queue.names.fill(template)

    async def assert_counts_agree(self) -> None:
        """After catching up, every node counts exactly the entries below it."""
        while await self.queue.catch_up(self.dispatcher):
            pass
        await self.assert_holds_agree()
        wrong = await self.superuser.fetch(
            self.fill("""WITH held AS (
                SELECT unnest(n.above || n.id) AS node, e.lane, count(*) FILTER (WHERE e.state = 'queued') AS queued,
                       count(*) FILTER (WHERE e.state = 'claimed') AS running
                  FROM __schema__.entries e JOIN __schema__.nodes n ON n.id = e.leaf GROUP BY 1, 2)
            SELECT node, lane FROM __schema__.fronts f FULL JOIN held h USING (node, lane)
             WHERE (coalesce(f.queued, 0), coalesce(f.running, 0))
                <> (coalesce(h.queued, 0), coalesce(h.running, 0))""")
        )
        assert wrong == []

    async def assert_holds_agree(self) -> None:
        """Held is who runs as many as it may; what it has queued is shut off above; nobody waits below the least."""
        wrong = await self.superuser.fetch(
            self.fill("""WITH ran AS (SELECT node, sum(running) AS running FROM __schema__.fronts GROUP BY 1)
            SELECT f.node, f.lane, f.held, f.shut, f.vt FROM __schema__.fronts f
              JOIN __schema__.nodes n ON n.id = f.node JOIN ran r ON r.node = f.node
              JOIN __schema__.lanes l ON l.id = f.lane
              LEFT JOIN __schema__.fronts p ON p.node = f.parent AND p.lane = f.lane
             WHERE f.held <> coalesce(r.running >= n.most_running, false)
                OR f.shut <> (SELECT coalesce(sum(c.queued), 0) FROM __schema__.fronts c
                               WHERE c.parent = f.node AND c.lane = f.lane AND c.held)
                OR (f.queued > f.shut AND NOT f.held AND f.vt < coalesce(p.least_vt, l.least_vt))""")
        )
        assert wrong == []


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("fairqueue"))
    server.start()
    yield server
    server.purge()


@pytest.fixture(scope="session")
async def parts(postgres: EmbeddedPostgres) -> dict[str, ConnectionParts]:
    link = await asyncpg.connect(**asdict(postgres.superuser))
    found = {"superuser": postgres.superuser}
    for role in ("queue_application", "queue_dispatcher"):
        password = secrets.token_hex(16)
        await link.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        found[role] = postgres.dsn(user=role, password=password, database="postgres")
    await link.close()
    return found


@pytest.fixture
async def rig(parts: dict[str, ConnectionParts]) -> AsyncIterator[Rig]:
    names = Names(schema=f"queue{next(_numbers)}", levels=("house", "floor", "room"), entry="task")
    superuser = await asyncpg.connect(**asdict(parts["superuser"]))
    await superuser.execute(f"CREATE SCHEMA {names.schema}")
    fence = "house = current_setting('queue.first')::uuid"
    opened = [
        f"{statement} TO queue_application {clause}"
        for table, grants in application_grants(names).items()
        for statement, clause in (
            (f"GRANT {grants} ON {names.schema}.{table}", ""),
            (f"CREATE POLICY application ON {names.schema}.{table}", f"USING ({fence}) WITH CHECK ({fence})"),
        )
    ]
    for statement in (
        *ddl(names),
        *dispatcher_grants(names, role="queue_dispatcher"),
        f"GRANT USAGE ON SCHEMA {names.schema} TO queue_application",
        *opened,
    ):
        await superuser.execute(statement)
    application, dispatcher = [
        await asyncpg.connect(**asdict(parts[f"queue_{x}"])) for x in ("application", "dispatcher")
    ]
    made = Rig(FairQueue(names), application, dispatcher, superuser, parts, [application, dispatcher])
    yield made
    for link in made.opened:
        await link.close()
    await superuser.execute(f"DROP SCHEMA {names.schema} CASCADE")
    await superuser.close()
