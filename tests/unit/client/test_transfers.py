import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tenantry.client import ApiError, AsyncClient, BadAnswer, Client, ConnectionFailed
from tenantry.client.saving import path_below

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

IMAGE = {"id": "img_1", "name": "tiny"}


def test_an_archive_is_streamed_with_its_length_and_again_when_the_server_is_away(
    server: "Server", client: Client, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(os.urandom(700_000))
    server.refuses(503)
    server.answers(201, IMAGE)
    sent: list[int] = []
    assert client.images.import_archive("ws_1", name="tiny", path=archive, progress=sent.append) == IMAGE
    for received in server.received:
        assert received.body == archive.read_bytes()
        assert received.headers["content-length"] == "700000"
        assert received.headers["content-type"] == "application/x-tar"
        assert received.query == [("name", "tiny"), ("format", "docker")]
    assert sent[-1] == 700_000


def root_file_system(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(b"#!" + bytes(600_000))
    (root / "bin" / "sh").chmod(0o755)
    (root / "bin" / "dash").hardlink_to(root / "bin" / "sh")
    (root / "lib").symlink_to("usr/lib")
    (root / ("n" * 150 + "é")).write_bytes(b"long")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    return root


async def test_a_directory_is_sent_as_the_tar_it_is_without_devices_and_names_of_owners(
    server: "Server", client: Client, async_client: AsyncClient, tmp_path: Path
) -> None:
    root = root_file_system(tmp_path)
    client.images.import_directory("ws_1", name="tiny", path=root)
    await async_client.images.import_directory("ws_1", name="tiny", path=root)
    first, second = server.received
    assert first.body == second.body
    assert first.query == [("name", "tiny"), ("format", "directory")]
    with tarfile.open(fileobj=io.BytesIO(first.body)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert set(members) == {"bin", "lib", "bin/sh", "bin/dash", "n" * 150 + "é"}
        assert members["lib"].linkname == "usr/lib"
        assert members["bin/sh"].islnk()
        assert members["bin/sh"].linkname == "bin/dash"
        content = tar.extractfile("bin/dash")
        assert content is not None
        assert content.read() == (root / "bin" / "sh").read_bytes()
        assert members["bin/dash"].mode == 0o755
        assert {member.uname for member in members.values()} == {""}


async def test_a_download_is_whole_and_checked_and_begun_again_when_it_breaks(
    server: "Server", client: Client, async_client: AsyncClient, tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    for _ in range(2):
        server.breaks_off()
        server.sends(b"content", media_type="application/octet-stream")
    target = tmp_path / "sub" / "file"
    assert client.jobs.download("ws_1", "job_1", "art_1", to=target, sha256=digest) == 7
    assert await async_client.jobs.download("ws_1", "job_1", "art_1", to=tmp_path / "b", sha256=digest.upper()) == 7
    assert target.read_bytes() == (tmp_path / "b").read_bytes() == b"content"
    assert server.received[0].path == "/api/v1/workspaces/ws_1/jobs/job_1/artifacts/art_1/content"


def test_content_that_is_not_what_was_announced_leaves_no_file(
    server: "Server", client: Client, tmp_path: Path
) -> None:
    server.sends(b"other", media_type="application/octet-stream")
    with pytest.raises(BadAnswer, match="SHA-256"):
        client.jobs.download("ws_1", "job_1", "art_1", to=tmp_path / "file", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_keeps_the_earlier_file(server: "Server", client: Client, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"earlier")
    for _ in range(4):
        server.breaks_off()
    with pytest.raises(ConnectionFailed):
        client.jobs.download("ws_1", "job_1", "art_1", to=target)
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_a_refused_download_is_a_problem_and_no_file(server: "Server", client: Client, tmp_path: Path) -> None:
    server.refuses(410, code="content_gone", detail="not kept")
    with pytest.raises(ApiError, match="content_gone"):
        client.jobs.download("ws_1", "job_1", "art_1", to=tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", "", "a/..", "link/file", "nul\0"])
def test_an_artifact_cannot_leave_the_directory_it_is_fetched_into(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "link").symlink_to(tmp_path)
    with pytest.raises(BadAnswer):
        path_below(directory, name)
    assert path_below(directory, "a/b..c") == directory / "a" / "b..c"
