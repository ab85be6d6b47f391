"""The scene of the demo in which nobody is believed: a log is verified without the server, searched and kept."""

import json
import tempfile
import time
from pathlib import Path
from typing import Final

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle_verifier import BundleReport, verify_bundle
from tenantry.client.errors import ApiError
from tenantry.client.surface import Client
from tenantry.entrypoints.demo_cast import KEYS, Cast
from tenantry.entrypoints.demo_stage import Stage

_SIGNED_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5


def proof(stage: Stage, cast: Cast) -> None:
    """Export acme's log, verify it, make a refusal a success, and verify it again."""
    stage.scene("Proof: acme's whole log is verified without the server, and whoever alters an event is found out")
    with tempfile.TemporaryDirectory(prefix="tenantry-demo-") as folder:
        file = Path(folder) / "acme.audit"
        account, receipts = _act(cast, Path(folder) / "receipts.jsonl")
        report = _verified(cast, file, receipts)
        stage.expect(
            "every event is as it was signed, in its place, and acme's",
            held=report.tenant == cast.acme.id and report.size > 0,
            seen=f"{report.size} events, root {report.root[:16]}…, signed by {', '.join(report.keys)}",
        )
        stage.expect(
            "what acme was given a receipt for is among them",
            held=report.receipts > 0 and report.pending == 0,
            seen=f"{report.receipts} events with a receipt, none missing",
        )
        anchor = cast.platform.audit.anchor(cast.acme.id)
        stage.expect(
            "its checkpoint is one of those under the signed root of its region",
            held=anchor["index"] < anchor["root"]["size"],
            seen=f"{anchor['root']['origin']}, {anchor['root']['size']} checkpoints,"
            f" signed by {', '.join(anchor['root']['signed_by'])}",
        )
        content = file.read_bytes()
        number = content[: content.index(b'"outcome":"denied"')].count(b"\n")
        file.write_bytes(content.replace(b'"outcome":"denied"', b'"outcome":"success"', 1))
        try:
            verify_bundle(file)
        except BundleRefused as refused:
            found = refused.fields.get("sequence") == number
            stage.expect("a refusal that was made a success is named", held=found, seen=f"{refused.code}: {refused}")
        else:
            stage.expect("a refusal that was made a success is named", held=False, seen="it passed")
        _search_and_keep(stage, cast, Path(folder))
        _forget(stage, cast, account, Path(folder) / "after.audit", receipts)


def _act(cast: Cast, file: Path) -> tuple[str, list[bytes]]:
    """Make a service account of acme's, and give its id and the receipts of it."""
    with Client(home=cast.home / KEYS / cast.acme.name, receipts=file) as owner:
        made = owner.service_accounts.create(workspace=cast.acme.workspace, name=f"proved-{time.time_ns()}")
    return made["id"], [json.loads(line)["note"].encode() for line in file.read_text().splitlines()]


def _forget(stage: Stage, cast: Cast, account: str, file: Path, receipts: list[bytes]) -> None:
    """Forget what the log keeps beside events that name the account, and verify all of it once more."""
    owner = cast.acme.owner
    before = next(iter(owner.audit.query(resource=account, limit=1)))
    asked, deadline = owner.audit.forget(account), time.monotonic() + _SIGNED_SECONDS
    while asked["state"] == "open" and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        asked = owner.audit.forgetting(asked["id"])
    after = next(iter(owner.audit.query(resource=account, limit=1)))
    report = _verified(cast, file, receipts)
    stage.expect(
        "one who asks to be forgotten is, and every proof stands",
        held=bool(before["ip"]) and after["withheld"] == ["ip"] and report.receipts > 0 and report.pending == 0,
        seen=f"{asked['forgotten']} of {asked['looked_at']} events, {report.size} verified",
    )


def _verified(cast: Cast, file: Path, receipts: list[bytes]) -> BundleReport:
    """Verify a bundle that has what the receipts tell of: it takes a second until that is signed."""
    deadline = time.monotonic() + _SIGNED_SECONDS
    while True:
        cast.acme.owner.audit.export(to=file)
        report = verify_bundle(file, receipts=receipts)
        if report.pending == 0 or time.monotonic() > deadline:
            return report
        time.sleep(_LOOK_SECONDS)


def _search_and_keep(stage: Stage, cast: Cast, folder: Path) -> None:
    """Find refusals by their words, read on by the sequence, and have the day as a file of lines."""
    owner = cast.acme.owner
    refused = list(owner.audit.query(q="permission missing", outcome="denied", limit=5))
    stage.expect("refusals are found by their words", held=bool(refused), seen=f"{len(refused)} of them")
    page = owner.audit.sequence(after=0, limit=50)
    places = [event["sequence"] for event in page["items"]]
    whole = places == list(range(1, len(places) + 1))
    stage.expect("the sequence has no gap", held=whole, seen=f"{len(places)} events, in the order of their commits")
    deadline = time.monotonic() + _SIGNED_SECONDS
    while not (days := list(owner.audit.days(limit=1))) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    file = folder / "day.jsonl"
    owner.audit.day(days[0]["day"], to=file)
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    stage.expect("the day is a file of lines", held=len(lines) > 0, seen=f"{days[0]['day']}.jsonl, {len(lines)} events")
    try:
        owner.audit_streams.create(name="siem", kind="object")
        error = None
    except ApiError as raised:
        error = raised
    stage.expect_refusal("a stream to a SIEM is of a plan with audit_logs", error, status=403, code="feature_missing")
