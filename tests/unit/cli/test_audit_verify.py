"""A bundle is verified by a command that asks nobody, and as the page says, without any of ours."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.capabilities.bundles import (
    BEGAN,
    EVENTS,
    KEEPER,
    NAME,
    ORIGIN,
    OTHER,
    STRANGER,
    TENANT,
    Bundle,
    good,
    id_of,
    root_of,
)
from tests.unit.capabilities.test_audit_erasures import ErasedBundle, erased_bundle

from tenantry.capabilities.audit.service.checkpoints import WitnessFile
from tenantry.capabilities.audit.service.receipts import Receipt
from tenantry.capabilities.audit.types import SignedCheckpoint
from tenantry.engines.merkle.tree import leaf_hash
from tenantry.foundation.clock import SystemClock

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Api, Run

PAGE = Path(__file__).parents[3] / "docs/how-to/verify-the-audit-log.md"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "acme.audit"
    file.write_bytes(good())
    return file


def test_a_bundle_is_verified_and_nobody_asked(bundle: Path, api: "Api", tenantry: "Run") -> None:
    done = tenantry("audit", "verify", "acme.audit")
    assert (done.exit_code, api.asked) == (0, [])
    assert f"valid\ttrue\ntenant\t{NAME}\nsize\t600\nroot\t{root_of(EVENTS).hex()}\n" in done.stdout
    assert "--keys-file" in done.stderr
    done = tenantry("audit", "verify", "acme.audit", "--key", str(KEEPER.key), "--output", "json")
    assert json.loads(done.stdout) == {
        "valid": True,
        "tenant": NAME,
        "size": 600,
        "root": root_of(EVENTS).hex(),
        "made_at": "2026-03-01T15:00:00+00:00",
        "keys": ["log.example/us"],
        "pinned": True,
        "witnessed": 0,
        "receipts": 0,
        "pending": 0,
        "erased": 0,
        "erased_at": None,
        "kept_days": None,
        "unreadable": 0,
    }
    assert done.stderr == ""


def test_what_has_left_is_told(bundle: Path, tenantry: "Run") -> None:
    bundle.write_bytes(b"".join(erased_bundle().lines()))
    told = json.loads(tenantry("audit", "verify", "acme.audit", "--key", str(KEEPER.key), "--output", "json").stdout)
    assert (told["size"], told["erased"], told["kept_days"]) == (600, 256, 90)
    assert told["erased_at"] == "2026-03-02T12:00:00+00:00"
    bundle.write_bytes(b"".join(erased_bundle(signed=False).lines()))
    refused = json.loads(tenantry("audit", "verify", "acme.audit", "--output", "json").stderr)
    assert (refused["code"], refused["first"], refused["last"]) == ("erasure_unsigned", 1, 256)


def test_the_first_bad_event_is_named(bundle: Path, tenantry: "Run") -> None:
    bundle.write_bytes(good().replace(b'"job_300"', b'"job_301"'))
    done = tenantry("audit", "verify", "acme.audit")
    said = f"error: event_altered (audit)\n  what:   event 300 is not as it was signed ({id_of(300)})\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", said)
    told = json.loads(tenantry("audit", "verify", "acme.audit", "--output", "json").stderr)
    assert (told["code"], told["sequence"], told["event"]) == ("event_altered", 300, id_of(300))


def test_keys_are_taken_from_a_file(bundle: Path, tenantry: "Run") -> None:
    Path("log.keys").write_text(f"# of log.example\n\n{STRANGER.key}\n{KEEPER.key}\n")
    assert "pinned\ttrue\n" in tenantry("audit", "verify", "acme.audit", "--keys-file", "log.keys").stdout
    for known in (f"{STRANGER.key}\n", "# none\n"):
        Path("log.keys").write_text(known)
        done = tenantry("audit", "verify", "acme.audit", "--keys-file", "log.keys")
        assert (done.exit_code, "checkpoint_unknown_key" in done.stderr) == (2, True)


def test_checkpoints_are_taken_from_a_receipt_or_a_witness(bundle: Path, tenantry: "Run") -> None:
    other = KEEPER.note(5, root_of(EVENTS), origin="log.example/ten_2")
    notes = [KEEPER.note(size, root_of(EVENTS[:size])) for size in (1, 300)]
    Path("receipt.note").write_bytes(notes[0])
    lines = [json.dumps({"made_at": "2026-03-01T12:00:00+00:00", "note": note.decode()}) for note in (*notes, other)]
    Path("witness.jsonl").write_text("\n".join(lines) + "\n")
    taken = ("--checkpoint", "receipt.note", "--checkpoint", "witness.jsonl")
    assert "witnessed\t3\n" in tenantry("audit", "verify", "acme.audit", *taken).stdout
    Path("receipt.note").write_bytes(KEEPER.note(700, root_of(EVENTS)))
    done = tenantry("audit", "verify", "acme.audit", *taken)
    assert (done.exit_code, "log_rolled_back" in done.stderr) == (2, True)


def test_what_a_witness_leaves_is_taken_as_it_is(bundle: Path, tenantry: "Run") -> None:
    """A line that a crash has cut off, checkpoints of many tenants, and more of both than anybody holds in memory."""
    witness = WitnessFile(Path("witness"), clock=SystemClock())
    made = SignedCheckpoint(TENANT, 600, BEGAN, KEEPER.note(600, root_of(EVENTS)))
    witness.tell([made])
    [file] = Path("witness").iterdir()
    with file.open("ab") as torn:
        torn.write(b'{"made_at":"2026')
    busy = SignedCheckpoint(OTHER, 5, BEGAN, KEEPER.note(5, root_of(EVENTS), origin="log.example/ten_2"))
    witness.tell([busy] * 300_000)
    witness.tell([made])
    assert file.stat().st_size > 64 << 20
    with file.open("ab") as torn:
        torn.write(b'{"note":' + b"[" * 200_000 + b"\n" + b'{"note":"' + b"x" * (4 << 20) + b'"}\n\n')
    done = tenantry("audit", "verify", "acme.audit", "--checkpoint", str(file))
    assert (done.exit_code, "witnessed\t2\n" in done.stdout, "unreadable\t3\n" in done.stdout) == (0, True, True)
    assert "3 lines of --checkpoint and --receipt cannot be read" in done.stderr
    witness.tell([SignedCheckpoint(TENANT, 700, BEGAN, KEEPER.note(700, root_of(EVENTS)))])
    done = tenantry("audit", "verify", "acme.audit", "--checkpoint", str(file))
    assert (done.exit_code, "log_rolled_back" in done.stderr) == (2, True)


def test_events_that_are_pending_are_told(bundle: Path, tenantry: "Run") -> None:
    Path("receipt").write_bytes(KEEPER.signs(Receipt(ORIGIN, BEGAN, ((id_of(700), bytes(32)),)).text))
    done = tenantry("audit", "verify", "acme.audit", "--receipt", "receipt")
    assert (done.exit_code, "pending\t1\n" in done.stdout) == (0, True)
    assert "1 events with receipts are not in it" in done.stderr


def test_receipts_are_taken_as_they_are_kept(bundle: Path, tenantry: "Run") -> None:
    kept = [
        KEEPER.signs(Receipt(origin, BEGAN, ((id_of(5), leaf_hash(EVENTS[4])),)).text).decode()
        for origin in (ORIGIN, "log.example/ten_2")
    ]
    lines = [json.dumps({"note": note}) for note in kept]
    Path("receipts.jsonl").write_text("\n".join([lines[0][:50], *lines]) + "\n")
    done = tenantry("audit", "verify", "acme.audit", "--receipt", "receipts.jsonl")
    assert (done.exit_code, "receipts\t1\n" in done.stdout, "unreadable\t1\n" in done.stdout) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("none.audit",), "file_unreadable"),
        (("acme.audit", "--keys-file", "none.keys"), "file_unreadable"),
        (("acme.audit", "--checkpoint", "none.note"), "file_unreadable"),
        (("acme.audit", "--key", "none"), "key_malformed"),
        (("acme.audit", "--keys-file", "acme.audit"), "key_malformed"),
        (("acme.audit", "--checkpoint", "acme.audit"), "checkpoint_unreadable"),
    ],
)
def test_what_cannot_be_read_is_told(bundle: Path, arguments: tuple[str, ...], code: str, tenantry: "Run") -> None:
    done = tenantry("audit", "verify", *arguments)
    assert (done.exit_code, code in done.stderr) == (2, True), done.stderr


def without_us(bundle: Path) -> Callable[..., bool]:
    page = PAGE.read_text()
    [program] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^    (openssl .*)$", page, re.MULTILINE)
    assert len(commands) == 2

    def passes(content: bytes, *, erased: bool = False) -> bool:
        bundle.write_bytes(content)
        command_line = [sys.executable, "-I", "-S", "-W", "ignore", "-c", program]
        asked = [command_line, *(command.split() for command in commands[: 1 + erased])]
        return all(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in asked)

    return passes


@pytest.mark.parametrize("size", [1, 5, 300])
def test_it_is_verified_without_us_as_the_page_says(size: int, bundle: Path) -> None:
    passes = without_us(bundle)
    content = b"".join(Bundle(EVENTS[:size], (size,)).lines())
    assert passes(content)
    assert not passes(content.replace(b"job.created", b"job.deleted", 1))
    forged = Bundle(EVENTS[:size], (size,))
    forged.notes = [KEEPER.note(size, root_of(EVENTS[:size]), origin=f"{ORIGIN}x").replace(b"x\n", b"\n", 1)]
    assert not passes(b"".join(forged.lines()))


def test_what_has_left_is_verified_without_us_as_the_page_says(bundle: Path) -> None:
    passes = without_us(bundle)
    content = b"".join(erased_bundle().lines())
    assert passes(content, erased=True)
    changes: tuple[Callable[[ErasedBundle], object], ...] = (
        lambda made: made.leaves.__setitem__(3, bytes(32)),
        lambda made: made.events.__setitem__(3, made.events[4]),
        lambda made: made.erase(512),
        lambda made: made.sign_away(STRANGER),
    )
    for change in changes:
        forged = erased_bundle()
        change(forged)
        assert not passes(b"".join(forged.lines()), erased=True)
