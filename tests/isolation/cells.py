"""An installation of three PostgreSQL servers, one for the directory and one a region, and what lies in their files."""

import json
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import asyncpg
from tests.conftest import Installation, start_installation

from tenantry.entrypoints.addresses import DIRECTORY_DATABASE, cell_database, embedded_dsn
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.database.migrate import CELL_SCHEMAS, DIRECTORY_SCHEMAS
from tenantry.foundation.database.roles import (
    CELL_ROLES,
    DIRECTORY_ROLE,
    OWNER,
    ROLES,
    prepare_cluster,
    prepare_database,
)

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Connection

REGIONS: Final = ("us", "eu")
_SAID: Final = re.compile(rb"cnry[0-9a-f]{20}")
_TABLES: Final = """
    select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('fence', 'queue', 'tenantry')
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
    order by 1
"""
_COLUMNS: Final = """
    select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
           (select substring(pg_get_constraintdef(k.oid) from '''([^'']+)''::text') from pg_constraint k
            where k.conrelid = a.attrelid and k.contype = 'c' and k.conkey = array[a.attnum] limit 1) as allowed
    from pg_attribute a
    where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped and a.attidentity <> 'a'
      and a.attgenerated = ''
    order by a.attnum
"""


@dataclass
class Canaries:
    """Texts that occur nowhere else, each with the place it was sent to."""

    places: dict[str, str] = field(default_factory=dict)

    def __call__(self, place: str) -> str:
        text = f"cnry{secrets.token_hex(10)}"
        self.places[text] = place
        return text

    def found_in(self, folder: Path) -> dict[str, set[str]]:
        """Read every file below a folder; gives the places whose canaries are there, each with the files."""
        found: dict[str, set[str]] = {}
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                for text in set(_SAID.findall(path.read_bytes())):
                    place = self.places.get(text.decode(), "unknown")
                    found.setdefault(place, set()).add(str(path.relative_to(folder)))
        return found


@dataclass
class Server:
    """One PostgreSQL server with a home, an account and passwords of its own."""

    name: str
    home: Path
    postgres: EmbeddedPostgres
    passwords: dict[str, str]

    @property
    def database(self) -> str:
        return DIRECTORY_DATABASE if self.name == "directory" else cell_database(self.name)

    @property
    def files(self) -> Path:
        """Everything the server ever wrote: tables, write-ahead log, logs."""
        return self.postgres.location

    def dsn(self, role: str, database: str | None = None) -> str:
        superuser = self.postgres.superuser
        user, password = (superuser.user, superuser.password) if role == "superuser" else (role, self.passwords[role])
        return embedded_dsn(self.home, user=user, password=password, database=database or self.database)

    async def prepare(self) -> None:
        """What a superuser does once for a configured server."""
        schemas = DIRECTORY_SCHEMAS if self.name == "directory" else CELL_SCHEMAS
        roles = (OWNER, DIRECTORY_ROLE) if self.name == "directory" else (OWNER, *CELL_ROLES)
        connection = await asyncpg.connect(self.dsn("superuser", "postgres"))
        try:
            await prepare_cluster(connection, passwords=self.passwords)
            await prepare_database(connection, self.dsn("superuser"), name=self.database, schemas=schemas, roles=roles)
        finally:
            await connection.close()

    @asynccontextmanager
    async def connected(self) -> "AsyncIterator[Connection]":
        connection = await asyncpg.connect(self.dsn("superuser"))
        try:
            yield connection
        finally:
            await connection.close()

    async def write_out(self) -> None:
        """Bring all that was committed into the files."""
        async with self.connected() as connection:
            await connection.execute("checkpoint")


@dataclass
class Cells:
    """The three servers, and the homes of processes that serve some of their regions."""

    folder: Path
    servers: dict[str, Server]

    def settings(self, regions: Iterable[str], *, known: Iterable[str] = ()) -> str:
        """The settings file of a process that serves these regions and holds the addresses of no other."""
        directory = self.servers["directory"]
        lines = [f"known_regions = {json.dumps(list(known))}", "[database]"]
        lines.append(f'directory_url = "{directory.dsn(DIRECTORY_ROLE)}"')
        lines.append(f'directory_owner_url = "{directory.dsn(OWNER)}"')
        for region in regions:
            server = self.servers[region]
            lines.append(f"[regions.{region}]")
            for key, role in (
                ("app_url", "tenantry_app"),
                ("dispatcher_url", "tenantry_dispatcher"),
                ("sealer_url", "tenantry_sealer"),
                ("mover_url", "tenantry_mover"),
                ("owner_url", OWNER),
            ):
                lines.append(f'{key} = "{server.dsn(role)}"')
            lines.append(f'provisioner_url = "{server.dsn("superuser", "postgres")}"')
        return "\n".join(lines) + "\n"

    def start(
        self, name: str, regions: Iterable[str], *, known: Iterable[str] = (), like: Path | None = None
    ) -> Installation:
        """Start a whole server process in a home of its own; `like` is a home whose secrets it shares."""
        home = self.folder / name
        home.mkdir(mode=0o711)
        for secret in ("secrets.json", "kms.key", "credentials.json") if like else ():
            assert like is not None
            shutil.copy2(like / secret, home / secret)
        (home / "tenantry.toml").write_text(self.settings(regions, known=known))
        (home / "tenantry.toml").chmod(0o600)
        return start_installation(home)


def _folder() -> Path:
    """A place that PostgreSQL's account may pass, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tenantry-cells-"))
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def open_cells() -> AsyncIterator[Cells]:
    folder = _folder()
    servers: dict[str, Server] = {}
    try:
        for name in ("directory", *REGIONS):
            home = folder / f"postgres-{name}"
            passwords = {role: secrets.token_urlsafe(16) for role in ROLES}
            servers[name] = Server(name, home, EmbeddedPostgres(home), passwords)
            servers[name].postgres.start()
            await servers[name].prepare()
        yield Cells(folder, servers)
    finally:
        for server in servers.values():
            server.postgres.purge()
        shutil.rmtree(folder)


_NONE_OF = {("audit_heads", "erased"), ("audit_heads", "swept")}
"""Numbers that are 0 of a log of one event: what has left it does so in whole tiles."""


async def fill_every_table(server: Server, *, tenant: UUID, canary: Canaries) -> list[str]:
    """Give a tenant a row in every table, a canary in every column that can hold a text; gives the tables."""
    async with server.connected() as connection, connection.transaction():
        # Keys to other tables need no row there; checks hold all the same.
        await connection.execute("set local session_replication_role = replica")
        tables = [row["name"] for row in await connection.fetch(_TABLES)]
        for table in tables:
            values = {
                column["name"]: _value(table, column, tenant=tenant, canary=canary)
                for column in await connection.fetch(_COLUMNS, table)
            }
            places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
            await connection.execute(f"insert into {table} ({', '.join(values)}) values ({places})", *values.values())
    return tables


def _value(table: str, column: Any, *, tenant: UUID, canary: Canaries) -> object:
    name, kind = column["name"], column["type"]
    if name == "tenant_id":
        return tenant
    if (table.rpartition(".")[2], name) in _NONE_OF:
        return 0
    if kind in ("text", "text[]", "jsonb", "bytea"):
        if kind == "text" and column["allowed"]:
            return column["allowed"]
        said = canary(f"{table}.{name}")
        texts: dict[str, object] = {
            "text": said,
            "text[]": [said],
            "jsonb": json.dumps({said: said}),
            "bytea": said.encode().ljust(32),
        }
        return texts[kind]
    rest: dict[str, object] = {
        "uuid": uuid5(tenant, name),
        "boolean": False,
        "bigint": 1,
        "integer": 1,
        "smallint": 1,
        "double precision": 1.0,
        "numeric": Decimal(1),
        "timestamp with time zone": datetime.now(UTC),
        "date": datetime.now(UTC).date(),
    }
    return rest[kind]
