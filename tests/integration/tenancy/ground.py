"""Tenants with one of everything, what two copies of one share, and where a word of one still stands."""

import asyncio
import base64
import hashlib
import io
import secrets
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import httpx
from tests.conftest import Installation, Tenant

from tenantry.capabilities.tenants.types import PLATFORM_TENANT
from tenantry.entrypoints.addresses import DIRECTORY_DATABASE, embedded_dsn
from tenantry.foundation.database.embedded import EmbeddedPostgres
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.objects.unfinished import UNFINISHED

Json = dict[str, Any]
Members = dict[str, bytes]
MakeInhabited = Callable[..., "Inhabited"]
_Found = TypeVar("_Found")

# What belongs to the place or the moment, not to the tenant: it differs after a move, as it should.
_PLACED = {
    "tenants": ("region", "isolation", "version"),
    "workspaces": ("region", "version"),
    "api_keys": ("last_used_at",),
}
_PASSING = frozenset({"entries", "shares", "purges", "outbox", "audit_unsealed", "audit_unsigned", "tenant_state"})
_ADDED_UP = frozenset({"metering_events", "metering_hours", "metering_marks"})
"""A server adds them up whenever it comes round."""
_FOLLOWING = frozenset({"audit_index", "audit_words", "audit_days"})
"""A server follows the trail with them."""
_TRAIL = frozenset({"audit_events", "audit_heads", "audit_sequence", "audit_tiles", "audit_checkpoints"})
Sums = dict[str, tuple[int, str]]


def until(look: Callable[[], _Found | None], *, seconds: float = 30.0) -> _Found:
    """Look until there is something; what is not there in time is an error."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


@dataclass
class Inhabited:
    """A tenant, and a word that stands in every text of it."""

    tenant: Tenant
    word: str
    workspace: str
    job: str
    artifact: str
    sandbox: str
    snapshot: str
    key: str = field(repr=False)

    @property
    def installation(self) -> Installation:
        return self.tenant.installation

    @property
    def tenant_id(self) -> UUID:
        return parse_id(Prefix.TENANT, self.tenant.id)

    @property
    def path(self) -> str:
        return f"/tenants/{self.tenant.id}"

    @property
    def expected(self) -> tuple[str, bytes, bytes]:
        """What can be read where nothing is lost."""
        return f"{self.word}\n", f"{self.word}\n".encode(), self.word.encode()

    def operations(self, kind: str) -> list[Json]:
        answer = self.installation.platform.get(f"{self.path}/operations")
        assert answer.status_code == 200, answer.text
        return [each for each in answer.json()["items"] if each["kind"] == kind]

    def until_status(self, kind: str, *statuses: str, seconds: float = 30.0) -> Json:
        """Wait until the latest operation of a kind has ended so."""

        def ended() -> Json | None:
            found = self.operations(kind)
            return found[0] if found and found[0]["status"] in statuses else None

        return until(ended, seconds=seconds)

    def readable(self, client: httpx.Client | None = None) -> tuple[str, bytes, bytes]:
        """Read the job's log, artifact and input: what only keys, rows and objects together give."""
        client = client or self.tenant.owner
        job = f"/workspaces/{self.workspace}/jobs/{self.job}"
        log = client.get(f"{job}/logs", params={"follow": "false"})
        content = client.get(f"{job}/artifacts/{self.artifact}/content")
        [item] = client.get(f"{job}/inputs").json()["items"]
        given = client.get(f"{job}/inputs/{item['sha256']}/content")
        assert {each.status_code for each in (log, content, given)} == {200}, log.text + content.text + given.text
        return "".join(line["text"] for line in log.json()["items"]), content.content, given.content

    def kept(self, client: httpx.Client | None = None) -> tuple[str, str]:
        """Start the sandbox, then another from its snapshot, and read what each begins with; both are stopped again."""
        client = client or self.tenant.owner
        path = f"/workspaces/{self.workspace}/sandboxes"
        started = _done(client.post(f"{path}/{self.sandbox}/start", params={"wait": 60}))
        body = {"name": secrets.token_hex(6), "snapshot": self.snapshot}
        forked = _done(client.post(f"{path}/{self.sandbox}/fork", params={"wait": 60}, json=body))
        found = []
        for each in (started, forked):
            assert each["status"] == "running", each
            found.append(said(client, f"{path}/{each['id']}", "cat link; printf %s $WORD"))
            _done(client.post(f"{path}/{each['id']}/stop", params={"wait": 60}))
        return found[0], found[1]

    @property
    def expected_kept(self) -> tuple[str, str]:
        """What `kept` reads where nothing is lost."""
        return f"{self.word} now\n{self.word}", f"{self.word} then\n{self.word}"

    def proved(self, client: httpx.Client | None = None) -> str:
        """Have the evidence of the job examined, which holds; gives the digest of what was signed."""
        client, path = client or self.tenant.owner, f"/workspaces/{self.workspace}/evidence"
        [listed] = client.get(path, params={"subject": self.job}).json()["items"]
        found = client.get(f"{path}/{listed['id']}").json()
        assert (found["state"], found["faults"]) == ("locked", []), found["faults"]
        return str(found["sha256"])

    def told(self, client: httpx.Client | None = None) -> str:
        """Have a new job tell the digest of a secret: what only rows and keys together give."""
        client = client or self.tenant.owner
        body = {"command": ["sh", "-c", "printf %s $KEPT | sha256sum"], "secrets": [{"name": "KEPT"}]}
        job = client.post(f"/workspaces/{self.workspace}/jobs", params={"wait": 60}, json=body)
        assert job.status_code == 202, job.text
        log = client.get(f"/workspaces/{self.workspace}/jobs/{job.json()['id']}/logs", params={"follow": "false"})
        said = "".join(line["text"] for line in log.json()["items"])
        return said.partition(" ")[0]


def inhabit(installation: Installation, **fields: str) -> Inhabited:
    """Make a tenant through the API with everything a tenant can have."""
    word = f"canary{secrets.token_hex(6)}"
    place = {"region": "us", "isolation": "row_level", **fields}
    owner = {"email": f"{word}@x.example", "name": word, "user_id": word}
    texts = {"settings": {"default_model": word}, "metadata": {word: word}, "contacts": {word: word}}
    body = {"name": word, "slug": f"t-{secrets.token_hex(6)}", "plan": "enterprise", "owner": owner, **texts, **place}
    answer = installation.platform.post("/tenants", json=body | {"billing": {word: word}, "compliance": {word: word}})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    tenant = Tenant(installation, made["id"], made["slug"], place["region"], made["bootstrap_key"]["secret"])
    settings = {"persistence_mode": "full", "allowed_images": ["*"]}
    workspace = tenant.workspace(word, path=f"teams/{word}", settings=settings)
    base = f"/workspaces/{workspace}"
    _post(tenant, f"{base}/environments", {"slug": "dev-1", "kind": "dev", "description": word})
    account = _post(tenant, f"{base}/service-accounts", {"name": word})["id"]
    _post(tenant, f"{base}/bindings", {"principal": account, "role": "viewer"})
    narrowed = {"rates": {"principal.api_requests": {"max_requests": 9000, "window_ms": 60_000}}}
    for holder in (f"/tenants/{tenant.id}", base):
        assert tenant.owner.put(f"{holder}/limits", json=narrowed).status_code == 200
    # Nothing is published here, so it is told to nobody; the host does not exist.
    channel = {"name": word, "kind": "webhook", "address": f"https://hooks.invalid/{word}", "topics": ["*"]}
    _post(tenant, f"{base}/notification-channels", channel)
    _post(tenant, f"{base}/secrets", {"name": "KEPT", "value": f"kept-{word}"})
    key = tenant.key(workspace, "workspace-admin")
    image = tenant.owner.post(
        f"{base}/images",
        params={"name": word, "format": "directory"},
        content=_root(word),
        headers={"Content-Type": "application/x-tar"},
    )
    assert image.status_code == 201, image.text
    script = f"echo {word}; echo {word} > /outputs/{word}.txt"
    wanted = {
        "command": ["sh", "-c", script],
        "artifacts": ["outputs/*.txt"],
        "labels": {"name": word},
        "env": {"WORD": word},
        "secrets": [{"name": "KEPT"}],
        "inputs": [{"path": f"{word}.in", "content_base64": base64.b64encode(word.encode()).decode()}],
    }
    job = tenant.owner.post(f"{base}/jobs", params={"wait": 60}, json=wanted)
    assert job.status_code == 202, job.text
    assert job.json()["status"] == "succeeded", job.text
    artifacts = tenant.owner.get(f"{base}/jobs/{job.json()['id']}/artifacts").json()["items"]
    sandbox, snapshot = _sandbox(tenant, base, word)
    _evidence(tenant, base, word)
    return Inhabited(tenant, word, workspace, job.json()["id"], artifacts[0]["id"], sandbox, snapshot, key)


def _sandbox(tenant: Tenant, base: str, word: str) -> tuple[str, str]:
    """Make a sandbox that was stopped, with a snapshot of what was before; gives the ids of both."""
    wanted = {"name": word, "env": {"WORD": word}, "labels": {"name": word}}
    made = _done(tenant.owner.post(f"{base}/sandboxes", params={"wait": 60}, json=wanted))
    path = f"{base}/sandboxes/{made['id']}"
    said(tenant.owner, path, f"echo {word} then > {word}; ln -s {word} link")
    snapshot = _done(tenant.owner.post(f"{path}/snapshot", json={"name": word}))
    said(tenant.owner, path, f"echo {word} now > {word}")
    stopped = _done(tenant.owner.post(f"{path}/stop", params={"wait": 60}))
    assert (stopped["status"], stopped["files_kept"]) == ("stopped", True), stopped
    return made["id"], snapshot["id"]


def _evidence(tenant: Tenant, base: str, word: str) -> None:
    """Wait until that of all that has run is locked, and leave a hold that was released."""

    def open_() -> bool:
        return bool(tenant.owner.get(f"{base}/evidence", params={"state": "wip"}).json()["items"])

    until(lambda: not open_())
    hold = _post(tenant, f"{base}/evidence/holds", {"case_id": word, "reason": word, "label": {"name": word}})
    _done(tenant.owner.delete(f"{base}/evidence/holds/{hold['id']}", params={"reason": word}))


def said(client: httpx.Client, sandbox: str, script: str) -> str:
    """Run a script in a running sandbox; gives its output."""
    told = _done(client.post(f"{sandbox}/exec", json={"command": ["sh", "-c", script]}))
    assert told["exit_code"] == 0, told
    return str(told["stdout"])


def _done(answer: httpx.Response) -> Json:
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def _post(tenant: Tenant, path: str, body: Json) -> Json:
    return _done(tenant.owner.post(path, json=body, headers={"Idempotency-Key": secrets.token_hex(8)}))


def _root(word: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in {"etc/word": word.encode(), "bin/tool": b"\x00" * 100_000}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "tool"
        archive.addfile(link)
    return packed.getvalue()


def superuser_dsn(installation: Installation, database: str) -> str:
    superuser = EmbeddedPostgres(installation.home).superuser
    return embedded_dsn(installation.home, user=superuser.user, password=superuser.password, database=database)


async def databases(installation: Installation) -> list[str]:
    connection = await asyncpg.connect(superuser_dsn(installation, "postgres"))
    try:
        rows = await connection.fetch("select datname from pg_database where datname ~ '^tenantry_' order by 1")
    finally:
        await connection.close()
    return [row["datname"] for row in rows]


_TABLES = """
    select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') order by 1
"""


async def rows_with(installation: Installation, *words: str) -> set[str]:
    """Name the tables, in all databases, in which one of the words stands: as text, or as bytes."""
    found = set()
    for database in await databases(installation):
        connection = await asyncpg.connect(superuser_dsn(installation, database))
        try:
            for row in await connection.fetch(_TABLES):
                texts = [text for word in words for text in (word, word.encode().hex())]
                asked = f"select exists (select from {row['name']} t where t::text ~ $1)"
                if await connection.fetchval(asked, "|".join(texts)):
                    found.add(f"{database}.{row['name']}")
        finally:
            await connection.close()
    return found


def files_with(installation: Installation, *words: str) -> set[str]:
    """Name the files beside the database in whose name or content one of the words stands."""
    found = set()
    for region in ("us", "eu"):
        for path in (installation.home / region).rglob("*"):
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            if any(word in str(path) or word.encode() in content for word in words):
                found.add(str(path.relative_to(installation.home)))
    return found


def only_witnessed(files: set[str]) -> bool:
    """The id, which the directory keeps too, stands in checkpoints of the log, which nobody can take back.

    And in the platform's own trail, which says what was erased.
    """
    return {file.split("/")[1] for file in files} <= {"checkpoints", format_id(Prefix.TENANT, PLATFORM_TENANT)}


async def rows_of(installation: Installation, tenant_id: UUID) -> dict[str, Sums]:
    """Count and sum up every table of a tenant, by database and schema: what is as before has the same sums."""
    found: dict[str, Sums] = {}
    for database in await databases(installation):
        connection = await asyncpg.connect(superuser_dsn(installation, database))
        try:
            for row in await _tables_with(connection, tenant_id):
                named = [f"t.{name}" for name in row["columns"] if name not in _PLACED.get(row["name"], ())]
                counted = await connection.fetchrow(
                    f"""select count(*) as count, coalesce(md5(string_agg(d, '' order by d)), '') as sum
                        from (select md5(row({", ".join(named)})::text) as d
                              from {row["schema"]}.{row["name"]} t where t.tenant_id = $1) as rows""",
                    tenant_id,
                )
                if counted and counted["count"]:
                    place = found.setdefault(f"{database}.{row['schema']}", {})
                    place[row["name"]] = (counted["count"], counted["sum"])
        finally:
            await connection.close()
    return found


async def _tables_with(connection: asyncpg.Connection, tenant_id: UUID) -> list[asyncpg.Record]:
    """Find the tables of a database in which a tenant has rows: all are asked, at once."""
    tables = await connection.fetch(
        """select n.nspname::text as schema, c.relname::text as name,
                  array_agg(a.attname::text order by a.attname::text) as columns
           from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
           join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           where c.relkind in ('r', 'p', 'v', 'f') and n.nspname !~ '^(pg_|information_schema|directory)'
           group by 1, 2 having 'tenant_id' = any (array_agg(a.attname::text)) order by 1, 2"""
    )
    if not tables:
        return []
    asked = " union all ".join(
        f"select {number} where exists (select from {table['schema']}.{table['name']} where tenant_id = $1)"
        for number, table in enumerate(tables)
    )
    return [tables[row[0]] for row in await connection.fetch(asked, tenant_id)]


def lasting(rows: dict[str, Sums], *, trail: bool = False) -> Sums:
    """What stays as it is when nobody does anything, of a tenant in one place; with `trail` its events too."""
    tables = [(name, sums) for place in rows.values() for name, sums in place.items()]
    left_out = _PASSING | _ADDED_UP | _FOLLOWING | (frozenset() if trail else _TRAIL)
    kept = [(name, sums) for name, sums in tables if name not in left_out]
    assert len(kept) == len(dict(kept)), "the tenant lies in two places"
    return dict(kept)


def rows_sync(installation: Installation, tenant_id: UUID) -> dict[str, Sums]:
    return asyncio.run(rows_of(installation, tenant_id))


def files_of(installation: Installation, tenant: str, region: str) -> dict[str, bytes]:
    """Objects and images of a tenant in a region, by their path; without days of its trail, which a server writes.

    What it is writing just now is waited for: it lies elsewhere until then.
    """
    folder = installation.home / region / tenant
    deadline = time.monotonic() + 10
    while True:
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.parent.name != "audit" and path.is_file() and not path.is_symlink():
                with suppress(FileNotFoundError):
                    found[str(path.relative_to(folder))] = path.read_bytes()
        if time.monotonic() > deadline or not any(f"{UNFINISHED}/" in name for name in found):
            return found
        time.sleep(0.05)


def directory_dsn(installation: Installation) -> str:
    return superuser_dsn(installation, DIRECTORY_DATABASE)


def home_of(installation: Installation, region: str, tenant: str) -> Path:
    return installation.home / region / tenant


@dataclass
class Exported:
    """A tenant, and the archive of it with its key."""

    inhabited: Inhabited
    archive: bytes = field(repr=False)
    key: str = field(repr=False)
    operation: Json = field(default_factory=dict)


def export(inhabited: Inhabited) -> Exported:
    """Have a tenant exported and fetch the archive, as its owner."""
    owner = inhabited.tenant.owner
    answer = owner.post(f"{inhabited.path}/export")
    assert answer.status_code == 202, answer.text
    operation = inhabited.until_status("export", "succeeded", "failed")
    assert operation["status"] == "succeeded", operation
    path = f"{inhabited.path}/exports/{operation['id']}"
    told, content = owner.get(path), owner.get(f"{path}/content")
    assert (told.status_code, content.status_code) == (200, 200), told.text
    archive = content.content
    assert (told.json()["size_bytes"], told.json()["sha256"]) == (len(archive), hashlib.sha256(archive).hexdigest())
    return Exported(inhabited, archive, told.json()["key"], operation)


def send_archive(target: Installation, archive: bytes, key: str, **query: str) -> httpx.Response:
    headers = {"Content-Type": "application/x-tar", "X-Export-Key": key}
    return target.platform.post("/tenants/import", params={"region": "us", **query}, content=archive, headers=headers)


def members_of(archive: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {each.name: opened.extractfile(each).read() for each in opened}  # type: ignore[union-attr]
