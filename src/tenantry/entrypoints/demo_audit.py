"""The scene of the demo in which nobody is believed: a log is verified without the server, an altered one refused."""

import tempfile
from pathlib import Path

from tenantry.capabilities.audit.errors import BundleRefused
from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle
from tenantry.entrypoints.demo_cast import Cast
from tenantry.entrypoints.demo_stage import Stage


def proof(stage: Stage, cast: Cast) -> None:
    """Export acme's log, verify it, make a refusal a success, and verify it again."""
    stage.scene("Proof: acme's whole log is verified without the server, and whoever alters an event is found out")
    with tempfile.TemporaryDirectory(prefix="tenantry-demo-") as folder:
        file = Path(folder) / "acme.audit"
        cast.acme.owner.audit.export(to=file)
        report = verify_bundle(file)
        stage.expect(
            "every event is as it was signed, in its place, and acme's",
            held=report.tenant == cast.acme.id and report.size > 0,
            seen=f"{report.size} events, root {report.root[:16]}…, signed by {', '.join(report.keys)}",
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
