"""The scene of the demo in which nobody is believed: a log is verified without the server, searched and streamed."""

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
_STREAM_SECONDS: Final = 20.0


def proof(stage: Stage, cast: Cast) -> None:
    """Export acme's log, verify it, make a refusal a success, and verify it again."""
    stage.scene("Proof: acme's whole log is verified without the server, and whoever alters an event is found out")
    with tempfile.TemporaryDirectory(prefix="tenantry-demo-") as folder:
        file = Path(folder) / "acme.audit"
        receipts = _act(cast, Path(folder) / "receipts.jsonl")
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
    _search_and_stream(stage, cast)


def _act(cast: Cast, file: Path) -> list[bytes]:
    """Do something of acme's, and give the receipts of it."""
    with Client(home=cast.home / KEYS / cast.acme.name, receipts=file) as owner:
        owner.service_accounts.create(workspace=cast.acme.workspace, name=f"proved-{time.time_ns()}")
    return [json.loads(line)["note"].encode() for line in file.read_text().splitlines()]


def _verified(cast: Cast, file: Path, receipts: list[bytes]) -> BundleReport:
    """Verify a bundle that has what the receipts tell of: it takes a second until that is signed."""
    deadline = time.monotonic() + _SIGNED_SECONDS
    while True:
        cast.acme.owner.audit.export(to=file)
        report = verify_bundle(file, receipts=receipts)
        if report.pending == 0 or time.monotonic() > deadline:
            return report
        time.sleep(_LOOK_SECONDS)


def _search_and_stream(stage: Stage, cast: Cast) -> None:
    """Find refusals by their words, and have acme's whole trail streamed among its objects; globex sees none of it."""
    owner = cast.acme.owner
    refused = list(owner.audit.query(q="permission missing", outcome="denied", limit=5))
    stage.expect("refusals are found by their words", held=bool(refused), seen=f"{len(refused)} of them")
    stream = owner.audit_streams.create(name="siem", kind="object", format="ocsf", after=0)
    deadline = time.monotonic() + _STREAM_SECONDS
    while not (shown := owner.audit_streams.get(stream["id"]))["sent"] and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    told = f"{shown['sent']} events sent, {shown['lag_events']} behind"
    stage.expect("acme's events are streamed, from the first one on", held=shown["sent"] > 0, seen=told)
    try:
        cast.globex.owner.audit_streams.get(stream["id"])
        error = None
    except ApiError as raised:
        error = raised
    stage.expect_refusal("to globex there is no such stream", error, status=404, code="not_found")
    owner.audit_streams.remove(stream["id"])
