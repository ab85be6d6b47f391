"""The scene of the demo in which jobs are proved: evidence locks itself, is verified offline, and tells a forger."""

import json
import tempfile
import time
from pathlib import Path
from typing import Final

from tenantry.capabilities.evidence.errors import EvidenceRefused
from tenantry.capabilities.evidence.service.bundle import read_bundle, verify_bundle
from tenantry.capabilities.evidence.service.scanning import scan_directory
from tenantry.client.evidence_types import Evidence
from tenantry.engines.merkle.notes import VerifierKey
from tenantry.entrypoints.demo_cast import Cast, Party, Work
from tenantry.entrypoints.demo_stage import Stage
from tenantry.foundation.clock import SystemClock

_PATIENCE_SECONDS: Final = 20
_LOOK_SECONDS: Final = 0.1


def proof(stage: Stage, cast: Cast) -> None:
    """Have a job of each tenant locked, export both, verify them, exchange a word in acme's, index the directory."""
    stage.scene("Evidence: what ran is signed by itself, and proved without the server")
    found = [_locked(party) for party in (cast.acme, cast.globex)]
    for party, one in zip((cast.acme, cast.globex), found, strict=True):
        stage.expect(
            f"the evidence of {party.slug}'s job has locked itself", held=one["state"] == "locked", seen=one["state"]
        )
    keys = [
        VerifierKey.parse(each["key"] or "") for each in cast.acme.owner.evidence.index(cast.acme.workspace)["keys"]
    ]
    with tempfile.TemporaryDirectory(prefix="tenantry-demo-") as name:
        folder = Path(name)
        files = [folder / f"{one['id']}.json" for one in found]
        for file, one in zip(files, found, strict=True):
            file.write_text(json.dumps(one["bundle"]))
        verified = verify_bundle(read_bundle(files[0].read_bytes()), keys=keys)
        told = verified.statement.predicate
        stage.expect(
            "acme's is verified from its file, by keys brought along",
            held=verified.pinned and told.tenant == cast.acme.id and told.execution["status"] == "succeeded",
            seen=f"events {told.audit.first} to {told.audit.last} under the root {told.audit.checkpoint.root[:16]}…",
        )
        _forged(stage, files[0], keys)
        _indexed(stage, cast, folder, keys)


def _locked(party: Party) -> Evidence:
    """Run a job, and wait for its evidence."""
    job = party.start(Work(command=("sh", "-c", "echo proved")), wait_seconds=30)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        [found] = party.owner.evidence.list(party.workspace, subject=job["id"])
        if found["state"] != "wip" or time.monotonic() > deadline:
            return party.owner.evidence.get(party.workspace, found["id"])
        time.sleep(_LOOK_SECONDS)


def _forged(stage: Stage, file: Path, keys: list[VerifierKey]) -> None:
    """Make a success of another job of it."""
    bundle = json.loads(file.read_text())
    bundle["meta"]["subject"] = f"{bundle['meta']['subject'][:-1]}0"
    file.write_text(json.dumps(bundle))
    try:
        verify_bundle(read_bundle(file.read_bytes()), keys=keys)
    except EvidenceRefused as refused:
        stage.expect("said to be of another job, it is refused", held=refused.code == "meta_mismatch", seen=refused)
    else:
        stage.expect("said to be of another job, it is refused", held=False, seen="it passed")


def _indexed(stage: Stage, cast: Cast, folder: Path, keys: list[VerifierKey]) -> None:
    index = scan_directory(folder, keys=keys, now=SystemClock().now())
    counts = index["summary"]["by_tenant"]
    named = [one["file"] for one in index["items"] if one["state"] == "tampered"]
    stage.expect(
        "the index of the directory names that file, and counts by tenant",
        held=counts[cast.acme.id]["tampered"] == 1 and counts[cast.globex.id]["locked"] == 1 and len(named) == 1,
        seen=", ".join(named),
    )
    own = scan_directory(folder, keys=keys, now=SystemClock().now(), tenant=cast.globex.id)
    stage.expect("asked of globex alone, nothing of acme's is in it", held=cast.acme.id not in json.dumps(own))
