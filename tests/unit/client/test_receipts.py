"""Receipts of what was done are kept where one says, whole lines, and by nobody who says nothing."""

import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.client.conftest import KEY
from tests.unit.client.test_progress import IMAGE, PROGRESS, REFERENCE, event

from tenantry.client import AsyncClient, Client, CredentialsError

if TYPE_CHECKING:
    from tests.unit.client.conftest import Server

NOTE = "log.example/ten_1\nreceipt …\n\n— log.example/us AAAA\n"
GIVEN = b64encode(NOTE.encode()).decode()
LINE = {"note": NOTE}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENANTRY_RECEIPTS", str(tmp_path / "receipts.jsonl"))
    return tmp_path / "receipts.jsonl"


def lines(file: Path) -> list[object]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_comes_with_an_answer_is_appended(server: "Server", kept: Path) -> None:
    server.answers(200, {"name": "read"})
    server.answers(201, {"id": "ws_1"}, {"Audit-Receipt": GIVEN})
    with Client(url=server.url, key=KEY) as client:
        client.me()
        assert not kept.exists()
        client.workspaces.create(name="made")
    assert lines(kept) == [LINE]
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_the_asynchronous_client_does_the_same(server: "Server", kept: Path) -> None:
    for _ in range(2):
        server.answers(201, {"id": "ws_2"}, {"Audit-Receipt": GIVEN})
    async with AsyncClient(url=server.url, key=KEY) as client:
        await client.workspaces.create(name="made")
        await client.workspaces.create(name="made")
    assert lines(kept) == [LINE, LINE]


def test_what_comes_as_an_event_is_kept_as_well(server: "Server", kept: Path) -> None:
    server.streams(*PROGRESS, event("receipt", {"note": GIVEN}), event("done", IMAGE))
    with Client(url=server.url, key=KEY) as client:
        assert client.images.pull("ws_1", reference=REFERENCE, progress=lambda _: None) == IMAGE
    assert lines(kept) == [LINE]


def test_what_is_no_receipt_is_not_kept(server: "Server", kept: Path) -> None:
    server.answers(201, {"id": "ws_1"}, {"Audit-Receipt": "no base64!"})
    with Client(url=server.url, key=KEY) as client:
        client.workspaces.create(name="made")
    assert not kept.exists()


def test_a_file_that_cannot_be_written_is_told_with_what_has_happened(server: "Server", kept: Path) -> None:
    kept.mkdir()
    server.answers(201, {"id": "ws_1"}, {"Audit-Receipt": GIVEN})
    with Client(url=server.url, key=KEY) as client, pytest.raises(CredentialsError, match="what was asked for is done"):
        client.workspaces.create(name="made")


def test_nobody_who_has_not_asked_for_it_gets_a_file(server: "Server", tmp_path: Path) -> None:
    server.answers(201, {"id": "ws_1"}, {"Audit-Receipt": GIVEN})
    with Client(url=server.url, key=KEY) as client:
        client.workspaces.create(name="made")
    assert list(tmp_path.iterdir()) == []
