"""The signed context: every part of it bent, and everything injected SQL could do to get hold of another one."""

# ruff: noqa: PT012, PT017 - a session is its block, and of two answers either may be right

import asyncio
import re
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.integration.database.ground import Database, Ground, context_body, scope_of, workspace_of

from tenantry.foundation.database.context import ContextSigner
from tenantry.foundation.errors import Denied, ErrorKind, Fault, TenantryError, Unavailable

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

pytestmark = pytest.mark.xdist_group("database")


@pytest.fixture(scope="module")
async def mine(database: Database) -> UUID:
    return await database.make_tenant(rows=2)


@pytest.fixture(scope="module")
async def theirs(database: Database) -> UUID:
    return await database.make_tenant()


async def rows_seen(database: Database, context: str) -> int:
    """How many jobs a context shows; an error of the fence passes through."""
    async with database.connected() as connection:
        return await rows_shown(connection, context)


async def rows_shown(connection: "Connection", context: str) -> int:
    async with connection.transaction():
        await connection.execute(f"set local app.ctx = '{context}'")
        return int(await connection.fetchval("select count(*) from jobs"))


async def refusal(database: Database, context: str) -> str | None:
    try:
        await rows_seen(database, context)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


async def test_a_signed_context_is_believed(ground: Ground, database: Database, mine: UUID) -> None:
    """The control of all that is refused below: the same helper signs what the product signs."""
    assert await rows_seen(database, ground.sign(context_body(mine))) == 2
    assert await rows_seen(database, ground.signer().sign(tenant_id=mine, workspace_id=None)) == 2
    assert await rows_seen(database, ground.sign(context_body(mine, workspace=workspace_of(mine, 1).hex))) == 1


async def test_no_part_of_a_context_can_be_changed(
    ground: Ground, database: Database, mine: UUID, theirs: UUID
) -> None:
    """Each single character, and each part replaced by one that would be valid with a signature of its own."""
    signed = ground.sign(context_body(mine, workspace=workspace_of(mine, 1).hex))
    bents = [signed[:n] + ("0" if signed[n] != "0" else "1") + signed[n + 1 :] for n in range(len(signed))]
    bents += [signed[:-1], signed + "0", signed.upper(), signed[1:], signed[:64]]
    bodies = (
        context_body(theirs, workspace=workspace_of(mine, 1).hex),
        context_body(mine),
        context_body(mine, workspace=workspace_of(mine, 2).hex),
        context_body(mine, workspace=workspace_of(mine, 1).hex, purpose="p"),
        context_body(mine, workspace=workspace_of(mine, 1).hex, ahead=59),
    )
    async with database.connected() as connection:
        for bent in (*bents, *(signed[:64] + body for body in bodies)):
            with pytest.raises(asyncpg.PostgresError, match="not signed"):
                await rows_shown(connection, bent)


@pytest.mark.parametrize("context", ["x", "0" * 64, "0" * 141, "é" * 141, "*", "a" * 100_000, "' or true"])
async def test_what_is_no_context_is_an_error(database: Database, context: str) -> None:
    assert await refusal(database, context.replace("'", "''")) == "TN003"


@pytest.mark.parametrize(
    ("ahead", "state"), [(-3600, "TN003"), (-2, "TN003"), (5, None), (58, None), (63, "TN003"), (3600, "TN003")]
)
async def test_a_context_is_valid_for_a_minute_at_most(
    ground: Ground, database: Database, mine: UUID, ahead: int, state: str | None
) -> None:
    assert await refusal(database, ground.sign(context_body(mine, ahead=ahead))) == state


async def test_an_expired_context_of_ones_own_cannot_be_used_again(
    ground: Ground, database: Database, mine: UUID
) -> None:
    """Judged at the start of the transaction: a long one keeps its context, the next one does not get it back."""
    old = ground.sign(context_body(mine, ahead=-1))
    async with database.connected() as connection, connection.transaction():
        await connection.execute(f"set local app.ctx = '{ground.sign(context_body(mine))}'")
        assert await connection.fetchval("select count(*) from jobs") == 2
        with pytest.raises(asyncpg.PostgresError, match="expired"):
            async with connection.transaction():
                await connection.execute(f"select set_config('app.ctx', '{old}', true)")
                await connection.fetchval("select count(*) from jobs")


async def test_a_context_of_another_region_is_worthless(ground: Ground, database: Database, mine: UUID) -> None:
    """As is one signed with no key at all, or with another installation's."""
    for signer in (ground.signer("eu"), ContextSigner(key=b""), ContextSigner(key=bytes(32))):
        assert await refusal(database, signer.sign(tenant_id=mine, workspace_id=None)) == "TN003"
    assert await refusal(database, ground.sign(context_body(mine, key="b"))) == "TN003"


async def test_a_second_key_is_valid_until_it_is_removed(ground: Ground) -> None:
    """Rotation: both at once, then one."""
    async with ground.clone() as database:
        tenant = await database.make_tenant()
        fresh = ContextSigner(key=b"k" * 32, key_id="b")
        assert await refusal(database, fresh.sign(tenant_id=tenant, workspace_id=None)) == "TN003"
        from tenantry.foundation.database.migrate import install_context_key

        await install_context_key(database.dsn("tenantry_owner"), key_id="b", key=b"k" * 32)
        assert await rows_seen(database, fresh.sign(tenant_id=tenant, workspace_id=None)) == 1
        assert await rows_seen(database, ground.signer().sign(tenant_id=tenant, workspace_id=None)) == 1
        await database.alter("delete from fence.context_keys where key_id = 'a'")
        assert await refusal(database, ground.signer().sign(tenant_id=tenant, workspace_id=None)) == "TN003"


async def test_injected_settings_open_nothing(ground: Ground, database: Database, mine: UUID, theirs: UUID) -> None:
    """What SQL can set is only what somebody with the key has signed."""
    async with database.connected() as connection:
        for injected in (
            f"set local app.ctx = '{theirs.hex}'",
            f"select set_config('app.tenant_id', '{theirs}', true)",
            "set local row_security = off",
            f"set local app.ctx = '{context_body(theirs)}'",
        ):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local app.ctx = '{ground.sign(context_body(mine))}'")
            await connection.execute(injected)
            try:
                rows = await connection.fetch("select tenant_id from jobs")
                assert {row["tenant_id"] for row in rows} == {mine}
            except asyncpg.PostgresError as error:
                assert error.sqlstate in ("TN003", "42501")
            finally:
                await transaction.rollback()
        for role in ("tenantry_owner", "tenantry_sealer", "tenantry_dispatcher", "tenantry_mover"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"set role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"set session authorization {role}")
        for setting in ("track_activities = on", "session_replication_role = replica", "log_statement = 'all'"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"set {setting}")


async def stolen_context(database: Database, *, victim: str, thief: str) -> str | None:
    """Try to read a live context of a neighbour's session out of the server's own views, from injected SQL."""
    async with database.connected() as neighbour, database.connected() as attacker:
        await neighbour.execute(f"BEGIN; SET LOCAL app.ctx = '{victim}'")
        await attacker.execute(f"BEGIN; SET LOCAL app.ctx = '{thief}'")
        for view in ("pg_stat_activity", "pg_stat_get_activity(null)"):
            for row in await attacker.fetch(f"select query from {view} where pid <> pg_backend_pid()"):
                if found := re.search(r"SET LOCAL app.ctx = '(\w+\*?)'", row["query"] or ""):
                    return found[1]
    return None


async def test_a_neighbours_context_cannot_be_stolen(
    ground: Ground, database: Database, mine: UUID, theirs: UUID
) -> None:
    victim, thief = ground.sign(context_body(theirs)), ground.sign(context_body(mine))
    assert await stolen_context(database, victim=victim, thief=thief) is None
    # The control: with the role's setting gone the theft succeeds, and what was stolen opens the neighbour's rows.
    await database.alter("alter role tenantry_app reset track_activities")
    try:
        stolen = await stolen_context(database, victim=victim, thief=thief)
        assert stolen == victim
        assert await rows_seen(database, stolen) == 1
    finally:
        await database.alter("alter role tenantry_app set track_activities = off")


@pytest.mark.parametrize(
    ("mode", "reads", "writes"),
    [
        ("active", None, None),
        ("read_only", None, "TN002"),
        ("suspended", "TN001", "TN001"),
        ("deleted", "TN001", "TN001"),
        ("moved", "TN005", "TN005"),
        (None, "TN004", "TN004"),
    ],
)
async def test_the_state_of_a_tenant_is_kept_by_the_database(
    ground: Ground, database: Database, mode: str | None, reads: str | None, writes: str | None
) -> None:
    tenant = await database.make_tenant(mode=mode or "active")
    if mode is None:
        await database.alter(f"delete from fence.tenant_state where tenant_id = '{tenant}'")
    context = ground.sign(context_body(tenant))
    assert await refusal(database, context) == reads
    for statement in (
        "update jobs set detail = 'x'",
        "delete from images",
        f"insert into outbox (tenant_id, event_id, topic, payload) values ('{tenant}', '{uuid4()}', 't', '{{}}')",
    ):
        async with database.connected() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local app.ctx = '{context}'")
            try:
                assert (await connection.execute(statement)).endswith(" 1")
                assert writes is None
            except asyncpg.PostgresError as error:
                assert error.sqlstate == writes, statement
            finally:
                await transaction.rollback()


@pytest.mark.parametrize(
    ("mode", "kind", "code"),
    [
        ("suspended", ErrorKind.DENIED, "tenant_suspended"),
        ("deleted", ErrorKind.DENIED, "tenant_suspended"),
        ("moved", ErrorKind.UNAVAILABLE, "tenant_moved"),
        ("read_only", ErrorKind.UNAVAILABLE, "tenant_read_only"),
    ],
)
async def test_a_state_reads_above_as_an_error_with_its_remedy(
    database: Database, mode: str, kind: ErrorKind, code: str
) -> None:
    tenant = await database.make_tenant(mode=mode)
    async with database.cell() as cell:
        with pytest.raises(TenantryError) as refused:
            async with cell.session(scope_of(tenant)) as session:
                await session.execute("update jobs set detail = 'x' where tenant_id = $1", tenant)
        assert (refused.value.kind, refused.value.code) == (kind, code)
        if isinstance(refused.value, Unavailable):
            assert refused.value.fields["retry_after"] == (1 if mode == "moved" else 2)
        if mode == "moved":
            with pytest.raises(Unavailable, match="moved"):
                async with cell.session(scope_of(tenant), lifecycle=True) as session:
                    await session.fetchval("select count(*) from jobs")
            return
        if mode == "read_only":
            async with cell.session(scope_of(tenant)) as session:
                assert await session.fetchval("select count(*) from jobs") == 1
        async with cell.session(scope_of(tenant), lifecycle=True) as session:
            assert await session.fetchval("select count(*) from jobs") == 1


@pytest.mark.parametrize("mode", ["read_only", "moved"])
async def test_lifecycle_work_changes_nothing_of_a_tenant_on_the_move(database: Database, mode: str) -> None:
    """What it wrote would be lost: the rows are copied already, or elsewhere."""
    tenant = await database.make_tenant(mode=mode)
    async with database.cell() as cell:
        for statement in (
            "update jobs set detail = 'x' where tenant_id = $1",
            "select fence.set_tenant_state('suspended', 'tenantry') where $1::uuid is not null",
        ):
            with pytest.raises(Unavailable):
                async with cell.session(scope_of(tenant), lifecycle=True) as session:
                    await session.execute(statement, tenant)


async def test_a_forged_context_reads_above_as_a_fault_that_shows_nothing(database: Database, mine: UUID) -> None:
    async with database.cell() as cell:
        cell.signer._key = b"x" * 32
        with pytest.raises(Fault) as refused:
            async with cell.session(scope_of(mine)) as session:
                await session.fetchval("select count(*) from jobs")
    assert refused.value.code == "context_refused"
    assert mine.hex not in refused.value.message


async def test_only_lifecycle_work_changes_a_state_and_only_its_own_tenants(
    ground: Ground, database: Database, theirs: UUID
) -> None:
    tenant = await database.make_tenant()
    async with database.cell() as cell:
        with pytest.raises(Fault):
            async with cell.session(scope_of(tenant)) as session:
                await session.fetchval("select fence.set_tenant_state('suspended', 'tenantry')")
        async with cell.session(scope_of(tenant), lifecycle=True) as session:
            assert await session.fetchval("select fence.set_tenant_state('suspended', 'tenantry')") == 2
        with pytest.raises(Denied):
            async with cell.session(scope_of(tenant)) as session:
                await session.fetchval("select count(*) from jobs")
        with pytest.raises(asyncpg.CheckViolationError):
            async with cell.session(scope_of(tenant), lifecycle=True) as session:
                await session.fetchval("select fence.set_tenant_state('open', 'tenantry')")
    assert await rows_seen(database, ground.sign(context_body(theirs))) == 1
    async with database.connected() as connection:
        assert await connection.fetchval("select fence.set_tenant_state('active', 'tenantry')") is None


async def test_a_suspension_reaches_sessions_that_are_open(ground: Ground, database: Database) -> None:
    """Judged at each statement: a transaction begun before is refused at its next one."""
    tenant = await database.make_tenant()
    async with database.cell() as cell:
        with pytest.raises(Denied, match="suspended"):
            async with cell.session(scope_of(tenant)) as session:
                assert await session.fetchval("select count(*) from jobs") == 1
                async with cell.session(scope_of(tenant), lifecycle=True) as other:
                    await other.fetchval("select fence.set_tenant_state('suspended', 'tenantry')")
                await session.fetchval("select count(*) from jobs")


async def test_many_tenants_at_once_see_only_their_own(database: Database) -> None:
    """500 interleaved sessions of ten tenants over four connections."""
    tenants = [await database.make_tenant() for _ in range(10)]

    async def look(tenant: UUID) -> bool:
        async with cell.session(scope_of(tenant)) as session:
            await asyncio.sleep(0)
            rows = await session.fetch("select tenant_id from jobs")
            await asyncio.sleep(0)
            return {row["tenant_id"] for row in rows} == {tenant}

    async with database.cell() as cell:
        assert all(await asyncio.gather(*(look(tenant) for _ in range(50) for tenant in tenants)))
