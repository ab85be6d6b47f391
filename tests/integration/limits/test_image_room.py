"""An image whose room another takes while it is unpacked: refused by the ledger, and nothing of it is kept."""

import asyncio
import io
import tarfile
from pathlib import Path
from uuid import UUID

import pytest
from tests.integration.limits.conftest import Book, MakeBook

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.limits.service import QuotaService
from tenantry.capabilities.limits.types.quotas import Quota
from tenantry.capabilities.sandboxes.service import ImageLibrary, ImageService
from tenantry.capabilities.sandboxes.types import Image
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Exhausted

pytestmark = pytest.mark.xdist_group("api")


class Overtaken(QuotaService):
    """A ledger in which others take what is left right after it was asked how much that is."""

    async def room(self, quota: Quota, *, workspace_id: UUID) -> int | None:
        found = await super().room(quota, workspace_id=workspace_id)
        assert found is not None
        await self.book.reserve({quota: found - 4096}, kind="elsewhere")
        return found

    book: Book


def archive_at(place: Path) -> Path:
    with tarfile.open(place, "w") as archive:
        member = tarfile.TarInfo("etc/motd")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"hi\n"))
    return place


def images_of(book: Book, session: TenantSession, quotas: QuotaService, home: Path) -> ImageService:
    clock = book.beside.clock
    return ImageService(
        session=session,
        audit=AuditService(session=session, clock=clock),
        library=ImageLibrary(home=home, region="us"),
        quotas=quotas,
        clock=clock,
    )


async def imported(book: Book, tmp_path: Path, *, overtaken: bool) -> Image:
    archive = await asyncio.to_thread(archive_at, tmp_path / "archive.tar")
    async with book.session() as session:
        quotas = book.quotas(session)
        if overtaken:
            quotas = Overtaken(session=session, book=book.beside.runtime.book, clock=book.beside.clock)
            quotas.book = book
        service = images_of(book, session, quotas, tmp_path / "home")
        return await service.import_archive(
            workspace_id=book.workspace_id, name="small:1", source="directory", archive=archive
        )


def left(home: Path) -> list[Path]:
    return [*home.glob("us/*/images/sha256/*"), *home.glob("us/*/images/.incoming/*")]


async def test_room_that_others_took_meanwhile_is_not_taken_twice(make_book: MakeBook, tmp_path: Path) -> None:
    book = make_book()
    book.limit("workspace", max_storage_gb=1)
    with pytest.raises(Exhausted) as refused:
        await imported(book, tmp_path, overtaken=True)
    assert refused.value.code == "quota_exceeded"
    assert left(tmp_path / "home") == []
    holders = ("tenant", "workspace")
    assert await book.counted() == {(holder, "max_storage_gb"): (10**9 - 4096, 0) for holder in holders}
    async with book.session() as session:
        found = images_of(book, session, book.quotas(session), tmp_path / "home")
        assert await found.list_images(workspace_id=book.workspace_id) == []


async def test_what_has_room_holds_what_its_root_takes(make_book: MakeBook, tmp_path: Path) -> None:
    book = make_book()
    book.limit("workspace", max_storage_gb=1)
    image = await imported(book, tmp_path, overtaken=False)
    assert await book.counted() == {
        (holder, "max_storage_gb"): (0, image.size_bytes) for holder in ("tenant", "workspace")
    }
    assert [path.name for path in left(tmp_path / "home")] == [image.digest.removeprefix("sha256:")]


@pytest.mark.parametrize(("most", "left"), [(None, 7 * 10**9 - 5), (1, 10**9 - 5), (0, 0), (9, 7 * 10**9 - 5)])
async def test_the_room_that_is_left_is_the_least_of_any_holder(
    make_book: MakeBook, most: int | None, left: int
) -> None:
    book = make_book()
    book.limit("tenant", max_storage_gb=7)
    await book.reserve({Quota.STORAGE: 5})
    book.limit("workspace", max_storage_gb=most)
    async with book.session() as session:
        assert await book.quotas(session).room(Quota.STORAGE, workspace_id=book.workspace_id) == left
