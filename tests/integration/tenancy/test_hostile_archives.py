"""Whatever an archive claims: it is refused whole, by name of the rule, and nothing of it is kept."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import secrets
import tarfile
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from tests.conftest import Installation
from tests.integration.tenancy.ground import (
    Exported,
    Json,
    MakeInhabited,
    Members,
    directory_dsn,
    export,
    files_of,
    members_of,
    rows_of,
    send_archive,
    superuser_dsn,
)

from tenantry.foundation.ids import Prefix, format_id, new_id

Change = Callable[[Members, Json], object]


def packed(members: Members, *extra: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    """Pack members in their order; `extra` come before the manifest, without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members.items():
            if name == "manifest.json":
                for each in extra:
                    archive.addfile(each)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def changed(archive: bytes, change: Change, *, told: bool = True) -> bytes:
    """Change members and manifest, and unless `told` is off have the manifest tell what is now there."""
    members = members_of(archive)
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    if told:
        before = {each["name"]: each for each in manifest["members"]}
        manifest["members"] = [
            {
                **before.get(name, {}),
                "name": name,
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in members.items()
        ]
    return packed({**members, "manifest.json": json.dumps(manifest).encode()})


def special(kind: bytes, name: str, linkname: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def table_of(manifest: Json, name: str) -> Json:
    found: Json = next(table for table in manifest["tables"] if table["name"] == name)
    return found


def edit_rows(name: str, edit: Callable[[list[Any], list[str]], Any]) -> Change:
    """Edit each row of a table, as a list beside its columns."""

    def change(members: Members, manifest: Json) -> None:
        columns, key = table_of(manifest, name)["columns"], f"rows/{name}.000000.jsonl"
        lines = []
        for line in members[key].splitlines():
            row = json.loads(line)
            replaced = edit(row, columns)
            lines.append(json.dumps(row if replaced is None else replaced).encode())
        members[key] = b"\n".join(lines) + b"\n"

    return change


def put(name: str, value: str | None) -> Callable[[list[Any], list[str]], None]:
    def edit(row: list[Any], columns: list[str]) -> None:
        row[columns.index(name)] = value

    return edit


def add_table(name: str) -> Change:
    def change(members: Members, manifest: Json) -> None:
        del members
        manifest["tables"].append({"name": name, "columns": ["tenant_id"], "rows": 0, "sum": "0/0"})

    return change


def rename_column(_members: Members, manifest: Json) -> None:
    table_of(manifest, "jobs")["columns"][0] = "no_such_column"


def another_tenant(_members: Members, manifest: Json) -> None:
    manifest["tenant"] = format_id(Prefix.TENANT, new_id())


def another_count(_members: Members, manifest: Json) -> None:
    table_of(manifest, "jobs")["rows"] += 1


def two_tenants(members: Members, manifest: Json) -> None:
    members["rows/tenants.000000.jsonl"] *= 2
    table_of(manifest, "tenants")["rows"] = 2


def without_keys(members: Members, manifest: Json) -> None:
    del manifest, members["keys/keyset.json"]


def no_keysets(members: Members, manifest: Json) -> None:
    del manifest
    members["keys/keyset.json"] = b'{"keysets": []}'


def gap(members: Members, manifest: Json) -> None:
    del manifest
    members["rows/jobs.000002.jsonl"] = members["rows/jobs.000000.jsonl"]


TOLD: dict[str, tuple[Change, str]] = {
    "a table of ours that is left out": (add_table("api_keys"), "tables"),
    "keysets as rows": (add_table("keysets"), "tables"),
    "a table that is none": (add_table("pg_authid"), "tables"),
    "the queue's entries": (add_table("queue.entries"), "tables"),
    "rows of no table": (lambda m, _: m.update({"rows/nothings.000000.jsonl": b"[]\n"}), "tables"),
    "a column that is none": (rename_column, "columns"),
    "a row of another tenant": (edit_rows("jobs", put("tenant_id", str(new_id()))), "tenant"),
    "a row of no tenant": (edit_rows("jobs", put("tenant_id", None)), "tenant"),
    "a row too long": (edit_rows("jobs", lambda row, _: [*row, "more"]), "rows"),
    "a row that is no list": (edit_rows("jobs", lambda _row, _: {"a": 1}), "rows"),
    "a value that is no text": (edit_rows("jobs", lambda row, _: [*row[:-1], {"a": 1}]), "rows"),
    "more rows than told": (another_count, "rows"),
    "a member between missing": (gap, "rows"),
    "nesting": (lambda m, _: m.update({"rows/jobs.000000.jsonl": b"[" * 100_000 + b"\n"}), "rows"),
    "two tenants": (two_tenants, "tenant"),
    "no owner": (edit_rows("tenants", put("owner", "{}")), "owner"),
    "no keys": (without_keys, "keys"),
    "no keysets": (no_keysets, "keys"),
    "the way up": (lambda m, _: m.update({"objects/../../x": b""}), "name"),
    "an absolute name": (lambda m, _: m.update({"/etc/passwd": b""}), "name"),
    "a name of no place": (lambda m, _: m.update({"readme.txt": b""}), "name"),
    "NUL in a name": (lambda m, _: m.update({"objects/a\nb": b""}), "name"),
    "a form of later": (lambda _, told: told.update({"format": "tenantry-export/2"}), "manifest"),
    "an unknown member of the manifest": (lambda _, told: told.update({"more": 1}), "manifest"),
}
UNTOLD: dict[str, tuple[Change, str]] = {
    "a member changed": (lambda m, _: m.update({next(iter(m)): b"[]"}), "digest"),
    "a member more": (lambda m, _: m.update({"objects/more": b""}), "members"),
    "a member less": (lambda m, _: m.pop(next(name for name in m if name.startswith("objects/"))), "members"),
}


def refused(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.json()["code"]) == (422, "archive_refused"), answer.text
    return str(answer.json()["rule"])


async def left(target: Installation, exported: Exported) -> list[Any]:
    """What there is of the tenant in an installation that has refused it."""
    rows = await rows_of(target, exported.inhabited.tenant_id)
    files = list(target.home.glob("*/imports/*"))
    folders = list(target.home.glob(f"*/{exported.inhabited.tenant.id}"))
    connection = await asyncpg.connect(directory_dsn(target))
    try:
        placed = await connection.fetchval(
            "select count(*) from directory.tenants where tenant_id = $1", exported.inhabited.tenant_id
        )
    finally:
        await connection.close()
    return [each for each in (rows, files, folders, placed) if each]


@pytest.mark.parametrize("name", [*TOLD, *UNTOLD])
async def test_a_hostile_archive_is_refused(name: str, exported: Exported, elsewhere: Installation) -> None:
    change, rule = TOLD.get(name) or UNTOLD[name]
    archive = changed(exported.archive, change, told=name in TOLD)
    assert refused(send_archive(elsewhere, archive, exported.key)) == rule
    assert await left(elsewhere, exported) == []


SPECIALS = {
    "a symbolic link": special(tarfile.SYMTYPE, "objects/link", "/etc/passwd"),
    "a hard link": special(tarfile.LNKTYPE, "objects/link", "manifest.json"),
    "a device": special(tarfile.CHRTYPE, "objects/device"),
    "a pipe": special(tarfile.FIFOTYPE, "objects/pipe"),
    "a directory": special(tarfile.DIRTYPE, "objects/folder"),
    "a sparse file": special(tarfile.GNUTYPE_SPARSE, "objects/sparse"),
    "a long link": special(tarfile.GNUTYPE_LONGLINK, "objects/long"),
}


@pytest.mark.parametrize("name", SPECIALS)
async def test_what_is_no_plain_file_is_refused(name: str, exported: Exported, elsewhere: Installation) -> None:
    archive = packed(members_of(exported.archive), SPECIALS[name])
    assert refused(send_archive(elsewhere, archive, exported.key)) == "type"
    assert await left(elsewhere, exported) == []


def _twice(archive: bytes) -> bytes:
    members = members_of(archive)
    name = next(name for name in members if name.startswith("objects/"))
    member = tarfile.TarInfo(name)
    return packed(members, member)


def _after_manifest(archive: bytes) -> bytes:
    return packed({**members_of(archive), "objects/late": b""})


def _within_a_member(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        largest = max(opened, key=lambda member: member.size)
    return archive[: largest.offset_data + largest.size // 2]


WHOLE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (_within_a_member, "cut"),
    "without its end": (lambda archive: archive[:-1024], "head"),
    "with something after its end": (lambda archive: archive + b"more", "end"),
    "a member twice": (_twice, "name"),
    "something after the manifest": (_after_manifest, "manifest"),
    "without a manifest": (lambda _: packed({"objects/a": b""}), "manifest"),
    "nothing at all": (lambda _: b"", "head"),
    "noise": (lambda _: secrets.token_bytes(5000), "head"),
    "gzip": (gzip.compress, "head"),
    "extended headers": (
        lambda archive: packed({"objects/" + "é" * 100: b"", **members_of(archive)}, form=tarfile.PAX_FORMAT),
        "type",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_torn_archive_is_refused(name: str, exported: Exported, elsewhere: Installation) -> None:
    tear, rule = WHOLE[name]
    assert refused(send_archive(elsewhere, tear(exported.archive), exported.key)) == rule
    assert await left(elsewhere, exported) == []


@pytest.mark.parametrize("key", ["", "short", "!" * 43, base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")])
async def test_a_wrong_key_opens_nothing(key: str, exported: Exported, elsewhere: Installation) -> None:
    answer = send_archive(elsewhere, exported.archive, key)
    assert (answer.status_code, answer.json()["code"]) == (422, "export_key_wrong")
    assert await left(elsewhere, exported) == []


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "a moment that is none": edit_rows("jobs", put("queued_at", "yesterday, or so")),
        "a status that is none": edit_rows("jobs", put("status", "splendid")),
        "no value where one must be": edit_rows("jobs", put("command", None)),
        "a job of no workspace": edit_rows("jobs", put("workspace_id", str(new_id()))),
        "rows that the sum does not know": edit_rows("jobs", put("reason", "another")),
        "an image that is none": lambda m, _: m.update(
            {next(n for n in m if n.startswith("images/")): b"no tar at all" * 100}
        ),
        "an image with a way up": lambda m, _: m.update(
            {next(n for n in m if n.startswith("images/")): packed({"../../up": b"x"})}
        ),
    }.items(),
)
async def test_what_only_the_database_or_the_store_sees_fails_and_leaves_nothing(
    name: str, change: Change, exported: Exported, elsewhere: Installation
) -> None:
    answer = send_archive(elsewhere, changed(exported.archive, change), exported.key, isolation="schema_level")
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (await ended(elsewhere, exported))[0] == "failed", name
    assert await left(elsewhere, exported) == []
    assert elsewhere.client(made["bootstrap_key"]["secret"]).get("/me").status_code == 401
    assert elsewhere.platform.get(f"/tenants/{made['tenant']}").status_code == 404


async def ended(target: Installation, exported: Exported) -> tuple[str, str | None]:
    """Wait for the end of the last import; gives its status and why it failed."""
    deadline = time.monotonic() + 30
    while True:
        connection = await asyncpg.connect(directory_dsn(target))
        try:
            row = await connection.fetchrow(
                """select status, failure from directory.operations where tenant_id = $1
                   order by operation_id desc limit 1""",
                exported.inhabited.tenant_id,
            )
        finally:
            await connection.close()
        if row is not None and row["status"] in ("succeeded", "failed"):
            return row["status"], row["failure"]
        assert time.monotonic() < deadline, row
        await asyncio.sleep(0.05)


Told = dict[str, str | None]
Lie = Callable[[list[Told]], object]


async def sum_of(target: Installation, table: str, columns: list[str], rows: list[list[str | None]]) -> str:
    """Sum up rows as the product does: who writes an archive can."""
    connection = await asyncpg.connect(superuser_dsn(target, "tenantry_us"), server_settings={"timezone": "UTC"})
    try:
        rows_of_types = await connection.fetch(
            """select attname::text as name, format_type(atttypid, atttypmod) as type
               from pg_attribute where attrelid = $1::regclass""",
            table if "." in table else f"tenantry.{table}",
        )
        types = {row["name"]: row["type"] for row in rows_of_types}
        typed = ", ".join(f"${number}::text::{types[name]}" for number, name in enumerate(columns, 1))
        digests = [
            await connection.fetchval(f"select sha256(convert_to(row({typed})::text, 'UTF8'))", *row) for row in rows
        ]
    finally:
        await connection.close()
    halves = (sum(int.from_bytes(each[at : at + 8], "big", signed=True) for each in digests) for at in (0, 8))
    return "/".join(map(str, halves))


async def lying(target: Installation, archive: bytes, table: str, lie: Lie) -> bytes:
    """Rewrite a table's rows and their sum, so that only what they say is wrong."""
    members = members_of(archive)
    key, told = f"rows/{table}.000000.jsonl", table_of(json.loads(members["manifest.json"]), table)
    columns: list[str] = told["columns"]
    rows: list[Told] = [dict(zip(columns, json.loads(line), strict=True)) for line in members[key].splitlines()]
    lie(rows)
    written = [[row[name] for name in columns] for row in rows]
    total = await sum_of(target, table, columns, written)

    def change(members: Members, manifest: Json) -> None:
        members[key] = b"".join(json.dumps(row).encode() + b"\n" for row in written)
        table_of(manifest, table).update(sum=total, rows=len(written))

    return changed(archive, change)


def each(**values: str | None) -> Lie:
    return lambda rows: [row.update(values) for row in rows]


def of_sandboxes(**values: str | None) -> Lie:
    """Change only the jobs that sandboxes lived by."""
    return lambda rows: [row.update(values) for row in rows if row["sandbox_id"]]


def swap(name: str) -> Lie:
    def lie(rows: list[Told]) -> None:
        rows[0][name], rows[1][name] = rows[1][name], rows[0][name]

    return lie


def more(name: str) -> Lie:
    return lambda rows: [row.update({name: str(int(row[name] or 0) + 1)}) for row in rows]


def moved(prefix: str) -> Lie:
    """Let things lie elsewhere."""
    return lambda rows: [row.update(place=f"{prefix}{row['place']}") for row in rows]


def another_workspace(rows: list[Told]) -> None:
    for row in rows:
        row["place"] = f"{(row['place'] or '').rpartition('_')[0]}_{'0' * 26}"


def fifty_more(rows: list[Told]) -> None:
    rows += [{**rows[0], "snapshot_id": str(new_id()), "name": f"s-{number}"} for number in range(50)]


NOWHERE = str(new_id())
LIES: dict[str, tuple[str, Lie]] = {
    "files above the tenant": ("sandbox_trees", moved("../")),
    "files of no folder": ("sandbox_trees", each(place="")),
    "files in another workspace": ("sandbox_trees", another_workspace),
    "a sandbox in another workspace": ("sandboxes", another_workspace),
    "a job above the tenant": ("jobs", moved("workspaces/../")),
    "a job in a folder too deep for a key": ("jobs", moved("workspaces/" + "a/" * 40)),
    "files of a sandbox that is none": ("sandbox_trees", each(sandbox_id=NOWHERE)),
    "files under each other's ids": ("sandbox_trees", swap("tree_id")),
    "files under each other's keys": ("sandbox_trees", swap("content_key")),
    "files with each other's digests": ("sandbox_trees", swap("sha256")),
    "a key that is none": ("sandbox_trees", each(content_key="\\x00")),
    "files larger than they are": ("sandbox_trees", more("size_bytes")),
    "files of less than nothing": ("sandbox_trees", each(size_bytes="-1")),
    "an artifact larger than it is": ("artifacts", more("size_bytes")),
    "an artifact that is none": ("artifacts", each(artifact_id=NOWHERE)),
    "files that are none": ("sandboxes", each(tree_id=NOWHERE)),
    "files of one that keeps nothing": ("sandboxes", each(persistence_mode="metadata_only")),
    "files of one that is deleted": ("sandboxes", each(deleted_at="2026-01-01 00:00:00+00")),
    "a job that is none": ("sandboxes", each(job_id=NOWHERE)),
    "a job of another": ("jobs", of_sandboxes(sandbox_id=NOWHERE)),
    "limits that are no numbers": ("sandboxes", each(limits='{"cpus": "all", "memory_mib": 1, "pids": 1}')),
    "limits that are none": ("sandboxes", each(limits='{"root": 1}')),
    "labels that are no texts": ("sandboxes", each(labels='{"a": {}}')),
    "a phase that is none": ("sandboxes", each(network='[{"phase": "never", "host": "a.example", "port": 1}]')),
    "connections that are none": ("sandboxes", each(network='"all"')),
    "secrets that are none": ("sandboxes", each(secrets='[{"path": "/etc/shadow"}]')),
    "a snapshot of a sandbox that is none": ("sandbox_snapshots", each(sandbox_id=NOWHERE)),
    "a snapshot of files that are none": ("sandbox_snapshots", each(tree_id=NOWHERE)),
    "evidence in another workspace": ("evidence", each(workspace_id=NOWHERE)),
    "evidence of labels that are none": ("evidence", each(labels="[]")),
    "more snapshots than any has": ("sandbox_snapshots", fifty_more),
    "something to forget of a kind that is none": ("queue.purges", each(kind="everything")),
}


async def refuses(target: Installation, exported: Exported, archive: bytes) -> str | None:
    """Send what is refused once it is looked at; gives the code. Nothing of it is left."""
    answer = send_archive(target, archive, exported.key)
    assert answer.status_code == 202, answer.text
    status, failure = await ended(target, exported)
    assert status == "failed"
    assert await left(target, exported) == []
    return failure


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_about_what_sandboxes_keep_is_refused(
    name: str, exported: Exported, elsewhere: Installation
) -> None:
    archive = await lying(elsewhere, exported.archive, *LIES[name])
    assert await refuses(elsewhere, exported, archive) in ("archive_refused", "rows_refused")


async def test_files_that_something_begins_from_are_not_to_be_forgotten(
    exported: Exported, elsewhere: Installation
) -> None:
    tree = trees_of(members_of(exported.archive))[0].rpartition("/")[2]
    due = {"kind": "sandbox_tree", "item_id": str(UUID(hex=tree)), "due_at": "2026-01-01 00:00:00+00"}
    archive = await lying(elsewhere, exported.archive, "queue.purges", lambda rows: rows.append({**rows[0], **due}))
    assert await refuses(elsewhere, exported, archive) == "archive_refused"


def trees_of(members: Members) -> list[str]:
    return [name for name in members if name.startswith("objects/") and "/sandboxes/" in name]


def without_a_tree(members: Members, manifest: Json) -> None:
    del manifest, members[trees_of(members)[0]]


def trees_swapped(members: Members, manifest: Json) -> None:
    del manifest
    one, other = trees_of(members)
    members[one], members[other] = members[other], members[one]


def tree_cut(members: Members, manifest: Json) -> None:
    del manifest
    members[trees_of(members)[0]] = members[trees_of(members)[0]][:-1]


def without_artifacts(members: Members, manifest: Json) -> None:
    del manifest
    for name in [name for name in members if "/artifacts/" in name]:
        del members[name]


@pytest.mark.parametrize("change", [without_a_tree, trees_swapped, tree_cut, without_artifacts])
async def test_rows_that_point_at_what_is_not_there_are_refused(
    change: Change, exported: Exported, elsewhere: Installation
) -> None:
    assert await refuses(elsewhere, exported, changed(exported.archive, change)) == "archive_refused"


async def test_what_no_row_names_and_what_ran_does_not_come_along(
    make_inhabited: MakeInhabited, elsewhere: Installation
) -> None:
    made = await asyncio.to_thread(lambda: export(make_inhabited()))
    files = files_of(made.inhabited.installation, made.inhabited.tenant.id, "us")

    def strays(members: Members, manifest: Json) -> None:
        del manifest
        folder = trees_of(members)[0].rpartition("/")[0]
        members |= {"objects/stray": b"1", f"{folder}/{new_id().hex}": b"2", f"{folder}/more/deep": b"3"}

    runs = of_sandboxes(status="running", reason=None, finished_at=None, link="unix:/run/elsewhere.sock")
    archive = changed(await lying(elsewhere, made.archive, "jobs", runs), strays)
    answer = send_archive(elsewhere, archive, made.key)
    assert answer.status_code == 202, answer.text
    assert await ended(elsewhere, made) == ("succeeded", None)
    expected = {name: content for name, content in files.items() if "exports/" not in name}
    assert files_of(elsewhere, made.inhabited.tenant.id, "us") == expected
    owner = elsewhere.client(answer.json()["bootstrap_key"]["secret"])
    found = owner.get(f"/workspaces/{made.inhabited.workspace}/sandboxes/{made.inhabited.sandbox}").json()
    assert (found["status"], found["reason"]) == ("stopped", "tenant_imported"), found
    connection = await asyncpg.connect(superuser_dsn(elsewhere, "tenantry_us"))
    try:
        links = "select count(*) from tenantry.jobs where tenant_id = $1 and link is not null"
        assert await connection.fetchval(links, made.inhabited.tenant_id) == 0
    finally:
        await connection.close()
