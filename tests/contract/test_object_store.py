"""ObjectStore on files and on a real S3 server: whole or nothing, and never across tenants."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.foundation.errors import Fault, Invalid, NotFound, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.objects.directory import DirectoryObjects
from tenantry.foundation.objects.factory import open_objects
from tenantry.foundation.objects.keys import segments_of
from tenantry.foundation.objects.ports import ObjectStat, ObjectStore
from tenantry.foundation.objects.s3 import Bucket, S3Objects

LARGE = os.urandom(1 << 20) * 20  # three parts of a multipart upload


class StoreUnderTest:
    """A store, and the way past it to what it keeps."""

    def __init__(self, name: str, store: ObjectStore, place: Any) -> None:
        self.name = name
        self.store = store
        self._place = place

    def raw(self, tenant: UUID, key: str) -> tuple[Path | None, str]:
        home = f"{format_id(Prefix.TENANT, tenant)}/objects"
        if self.name == "directory":
            return self._place / home / f"{key},", ""
        return None, f"{home}/{key}"

    def leave_unfinished(self, tenant: UUID) -> None:
        """Do what a writer does that is killed halfway."""
        path, name = self.raw(tenant, "dead")
        if path is not None:
            (path.parent / ",unfinished/dead").write_bytes(b"half")
        else:
            client, bucket = self._place
            client.create_multipart_upload(Bucket=bucket, Key=name)

    def overwrite(self, tenant: UUID, key: str, content: bytes) -> None:
        path, name = self.raw(tenant, key)
        if path is not None:
            path.write_bytes(content)
        else:
            client, bucket = self._place
            client.put_object(Bucket=bucket, Key=name, Body=content)

    def read(self, tenant: UUID, key: str) -> bytes:
        path, name = self.raw(tenant, key)
        if path is not None:
            return path.read_bytes()
        client, bucket = self._place
        content: bytes = client.get_object(Bucket=bucket, Key=name)["Body"].read()
        return content


def client_of(endpoint: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.session.Session().client("s3", region_name="us-east-1", endpoint_url=endpoint, **keys)


@pytest.fixture(params=["directory", "s3"])
async def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreUnderTest]:
    if request.param == "directory":
        store = open_objects(root=tmp_path / "us", bucket=None)
        yield StoreUnderTest("directory", store, tmp_path / "us")
        await store.close()
        return
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = Bucket(f"b-{uuid4().hex}", "us-east-1", "", endpoint, "test", "test")
    client = client_of(endpoint)
    client.create_bucket(Bucket=bucket.name)
    client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    store = open_objects(root=tmp_path, bucket=bucket)
    yield StoreUnderTest("s3", store, (client, bucket.name))
    await store.close()
    client.close()


async def content_of(store: ObjectStore, tenant: UUID, key: str) -> bytes:
    return b"".join([piece async for piece in store.get(tenant, key)])


async def keys_of(store: ObjectStore, tenant: UUID, prefix: str = "") -> list[str]:
    return [entry.key async for entry in store.list_objects(tenant, prefix)]


async def in_chunks(content: bytes, size: int = 700_001) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(300_000), LARGE], ids=["empty", "one", "small", "large"])
async def test_content_comes_back_whole_with_its_size_and_digest(under_test: Any, content: bytes) -> None:
    tenant, store = uuid4(), under_test.store
    for given_content in (content, in_chunks(content)):
        put = await store.put(tenant, "jobs/a/stdout", given_content)
        assert (put.size, put.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert await store.stat(tenant, "jobs/a/stdout") == put
        assert await content_of(store, tenant, "jobs/a/stdout") == content
        entries = [entry async for entry in store.list_objects(tenant)]
        assert [(entry.key, entry.size) for entry in entries] == [("jobs/a/stdout", len(content))]


async def test_absent_and_foreign_objects_are_told_apart_by_nothing(under_test: Any) -> None:
    owner, stranger, store = uuid4(), uuid4(), under_test.store
    await store.put(owner, "secret", b"canary")
    refusals = []
    for tenant, key in ((stranger, "secret"), (stranger, "never"), (owner, "never")):
        for call in (store.stat(tenant, key), content_of(store, tenant, key)):
            with pytest.raises(NotFound) as refused:
                await call
            refusals.append((refused.value.code, str(refused.value), str(refused.value.fields)))
    assert len(set(refusals)) == 1
    assert await keys_of(store, stranger) == []
    await store.delete(stranger, "secret")
    await store.delete_all(stranger)
    assert await content_of(store, owner, "secret") == b"canary"


async def test_replacing_is_whole_and_a_reader_keeps_what_it_began(under_test: Any) -> None:
    tenant, store = uuid4(), under_test.store
    await store.put(tenant, "k", LARGE)
    async with aclosing(store.get(tenant, "k")) as reading:
        first = await anext(reading)
        await store.put(tenant, "k", b"new")
        rest = b"".join([piece async for piece in reading])
    assert first + rest == LARGE
    assert await content_of(store, tenant, "k") == b"new"


@pytest.mark.parametrize("end", ["error", "cancel"])
async def test_a_write_that_does_not_end_leaves_the_former_content_and_no_remains(under_test: Any, end: str) -> None:
    tenant, store = uuid4(), under_test.store
    await store.put(tenant, "k", b"former")
    halfway = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield LARGE
        halfway.set()
        if end == "error":
            raise ConnectionResetError
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.put(tenant, "k", broken()))
    await halfway.wait()
    if end == "cancel":
        writing.cancel()
    with pytest.raises((ConnectionResetError, asyncio.CancelledError)):
        await writing
    assert await content_of(store, tenant, "k") == b"former"
    assert await keys_of(store, tenant) == ["k"]
    assert await store.clear_unfinished(tenant, datetime.now(UTC) + timedelta(hours=1)) == 0


async def test_listing_is_in_byte_order_and_a_prefix_is_whole_segments(under_test: Any) -> None:
    tenant, store = uuid4(), under_test.store
    keys = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "ab", "b/x", "B"]
    for key in keys:
        await store.put(tenant, key, key.encode())
    assert await keys_of(store, tenant) == sorted(keys)
    assert await keys_of(store, tenant, "a") == ["a/b", "a/b/c"]
    assert await keys_of(store, tenant, "absent") == []
    assert await content_of(store, tenant, "a/b") == b"a/b"


async def test_delete_and_delete_all_are_idempotent_and_complete(under_test: Any) -> None:
    tenant, other, store = uuid4(), uuid4(), under_test.store
    for key in ("a", "a/b", "x/y/z"):
        await store.put(tenant, key, b"1")
        await store.put(tenant, key, b"2")
        await store.put(other, key, b"3")
    await store.delete(tenant, "a")
    await store.delete(tenant, "a")
    assert await keys_of(store, tenant) == ["a/b", "x/y/z"]
    await store.delete_all(tenant)
    await store.delete_all(tenant)
    assert await keys_of(store, tenant) == []
    assert len(await keys_of(store, other)) == 3
    await store.put(tenant, "again", b"4")
    assert await keys_of(store, tenant) == ["again"]


HOSTILE = ["", "/", "/etc/passwd", "a//b", "a/", "/a", ".", "..", "a/../b", "../x", "a/./b", "a\\b", "a\x00", "a\n"]
HOSTILE += ["\u00e4", "a b", "a,b", ",unfinished", "%2e%2e/x", "a:b", "..\x00", "~root", "\uff0e\uff0e/x", "x" * 129]
HOSTILE += ["/".join("a" * 33), "a/" * 300 + "a"]


@pytest.mark.parametrize("key", HOSTILE)
async def test_a_key_that_could_be_a_path_elsewhere_is_refused_everywhere(under_test: Any, key: str) -> None:
    tenant, store = uuid4(), under_test.store
    calls = [store.put(tenant, key, b"x"), store.stat(tenant, key), store.delete(tenant, key)]
    calls += [content_of(store, tenant, key)]
    if key:
        calls += [keys_of(store, tenant, key)]
    for call in calls:
        with pytest.raises(Invalid) as refused:
            await call
        assert refused.value.code == "object_key_malformed"


async def test_a_tenant_is_a_uuid_and_never_a_text(under_test: Any) -> None:
    store, owner = under_test.store, uuid4()
    await store.put(owner, "k", b"x")
    impostor: Any
    for impostor in (str(owner), "..", format_id(Prefix.TENANT, owner), None):
        for call in (store.stat(impostor, "k"), keys_of(store, impostor), store.delete_all(impostor)):
            with pytest.raises(Invalid):
                await call


async def test_content_changed_behind_the_store_is_never_read_as_if_whole(under_test: Any) -> None:
    tenant, store = uuid4(), under_test.store
    await store.put(tenant, "k", os.urandom(600_000))
    sound = under_test.read(tenant, "k")
    for damaged in (sound[:-1], b"x" + sound[1:], sound[:-1] + bytes([sound[-1] ^ 1]), sound[:10], b""):
        under_test.overwrite(tenant, "k", damaged)
        with pytest.raises(Fault) as refused:
            await content_of(store, tenant, "k")
        assert refused.value.code == "object_damaged"


async def test_remains_of_a_killed_writer_are_cleared_by_age_and_with_the_tenant(under_test: Any) -> None:
    tenant, other, store = uuid4(), uuid4(), under_test.store
    for owner in (tenant, other):
        await store.put(owner, "k", b"x")
        under_test.leave_unfinished(owner)
    now = datetime.now(UTC)
    assert await store.clear_unfinished(tenant, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert await store.clear_unfinished(tenant, now + timedelta(hours=1)) == 1
    assert await keys_of(store, tenant) == ["k"]
    await store.delete_all(other)
    assert await store.clear_unfinished(other, now + timedelta(hours=1)) == 0


async def test_sixteen_writers_of_one_key_leave_one_whole_content(under_test: Any) -> None:
    tenant, store = uuid4(), under_test.store
    contents = [bytes([number]) * 5000 for number in range(16)]
    await asyncio.gather(*(store.put(tenant, "deep/er/k", content) for content in contents))
    assert await content_of(store, tenant, "deep/er/k") in contents


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[tuple[DirectoryObjects, Path]]:
    store = DirectoryObjects(tmp_path / "root")
    yield store, tmp_path / "root"
    await store.close()


async def test_folders_are_0700_and_files_0600_whatever_the_umask(files: tuple[DirectoryObjects, Path]) -> None:
    store, root = files
    former = os.umask(0)
    try:
        await store.put(uuid4(), "a/b/c", b"x")
    finally:
        os.umask(former)
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("planted", ["final", "folder", "objects", "tenant", "unfinished"])
async def test_planted_links_lead_neither_out_nor_to_another_tenant(
    files: tuple[DirectoryObjects, Path], tmp_path: Path, planted: str
) -> None:
    store, root = files
    tenant, victim = uuid4(), uuid4()
    await store.put(victim, "d/k", b"canary")
    theirs = root / format_id(Prefix.TENANT, victim) / "objects"
    mine = root / format_id(Prefix.TENANT, tenant)
    place, target = {
        "final": (mine / "objects/d/k,", theirs / "d/k,"),
        "folder": (mine / "objects/d", theirs / "d"),
        "objects": (mine / "objects", theirs),
        "tenant": (mine, theirs.parent),
        "unfinished": (mine / "objects/,unfinished", tmp_path),
    }[planted]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    assert await outcome_of(content_of(store, tenant, "d/k")) in {"object_path_unsafe", "object_absent"}
    assert await outcome_of(store.stat(tenant, "d/k")) in {"object_path_unsafe", "object_absent"}
    told = [await outcome_of(call) for call in (store.put(tenant, "d/k", b"mine"), content_of(store, tenant, "d/k"))]
    # A planted object is replaced like any other; a planted folder is neither entered nor written through.
    assert told == ([None, b"mine"] if planted == "final" else ["object_path_unsafe", told[1]])
    assert told[1] in {b"mine", "object_path_unsafe", "object_absent"}
    for call in (keys_of(store, tenant), store.stat(tenant, "d/k"), store.delete(tenant, "d/k")):
        await outcome_of(call)
    await outcome_of(store.delete_all(tenant))
    assert await content_of(store, victim, "d/k") == b"canary"
    assert await keys_of(store, victim) == ["d/k"]
    assert os.listdir(tmp_path) == ["root"]


async def outcome_of(call: Awaitable[Any]) -> Any:
    """What a call gave, other than a digest or a count; the code it was refused with otherwise."""
    try:
        got = await call
    except TenantryError as refused:
        return refused.code if "root" not in str(refused) else "path told"
    return None if isinstance(got, ObjectStat) else got


async def test_a_planted_pipe_is_refused_and_not_waited_for(files: tuple[DirectoryObjects, Path]) -> None:
    store, root = files
    tenant = uuid4()
    await store.put(tenant, "k", b"x")
    path = root / format_id(Prefix.TENANT, tenant) / "objects/k,"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Fault):
        await content_of(store, tenant, "k")


async def test_writing_and_deleting_in_one_folder_at_once_loses_no_write(files: tuple[DirectoryObjects, Path]) -> None:
    store, root = files
    tenant = uuid4()

    async def churn(number: int) -> None:
        for _ in range(15):
            await store.put(tenant, f"a/b/{number}", b"x")
            assert (await store.stat(tenant, f"a/b/{number}")).size == 1
            await store.delete(tenant, f"a/b/{number}")

    await asyncio.gather(*(churn(number) for number in range(6)))
    assert not (root / format_id(Prefix.TENANT, tenant) / "objects/a").exists()


async def test_a_bucket_that_is_down_or_absent_says_so_and_hides_its_keys(s3_endpoint: str) -> None:
    down = Bucket("b", "us-east-1", "", "http://127.0.0.1:1", "AKIA", "hunter2")
    store = S3Objects(down)
    with pytest.raises(Unavailable) as refused:
        await store.stat(uuid4(), "k")
    assert "hunter2" not in f"{refused.value!r}{refused.value.fields}{down!r}{store!r}"
    await store.close()
    lost = S3Objects(Bucket(f"absent-{uuid4().hex}", "us-east-1", "", s3_endpoint, "test", "test"))
    with pytest.raises(Fault) as absent:
        await lost.put(uuid4(), "k", b"x")
    assert absent.value.code == "object_bucket_absent"
    await lost.close()


@given(key=st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9._/-]{1,40}"))
def test_an_accepted_key_is_a_relative_path_without_steps_up(key: str) -> None:
    try:
        segments = segments_of(key)
    except Invalid:
        return
    assert os.path.normpath(f"/home/{key}") == "/home/" + "/".join(segments)
