"""Evidence of what ran: asked of the server, or verified and indexed without it; legal holds."""

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.saving import file_below
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.terminal import write
from tenantry.interfaces.cli.verifier_keys import KeyOption, KeysFileOption, read_file, read_keys

if TYPE_CHECKING:
    from tenantry.engines.merkle.notes import VerifierKey

GROUP = typer.Typer(help="Signed proof of what ran.", no_args_is_help=True)
HOLDS = typer.Typer(help="What keeps it for a case.", no_args_is_help=True)
GROUP.add_typer(HOLDS, name="hold")

_EVD = "evd_01hq2m8x3v4w5y6z7a8b9c0d1e"
_OWN_KEYS = "the keys are the bundle's own: name those that you know with --key or --keys-file"

EvidenceArgument = Annotated[str, typer.Argument(metavar="EVD", help="id of evidence, or of the job it is of")]


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="evidence")


@command(GROUP, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry evidence list --state tampered")
def list_(
    cli: Invocation,
    *,
    state: Annotated[str | None, typer.Option("--state", help="wip, locked or tampered")] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="JOB", help="of this job alone")] = None,
) -> None:
    """List evidence, newest first."""
    columns = (("ID", "id"), ("STATE", "state"), ("OF", "subject"), ("LOCKED", "locked_at"), ("SHA-256", "sha256"))
    cli.show_list(cli.client.evidence.list(cli.workspace, state=state, subject=subject, **cli.page), columns)


@command(GROUP, "get", options=IN_WORKSPACE, example=f"tenantry evidence get {_EVD}")
def get(cli: Invocation, evidence: EvidenceArgument) -> None:
    """Have one piece examined, and show what was found. With --output json its bundle as well."""
    found: dict[str, Any] = dict(cli.client.evidence.get(cli.workspace, _id_of(cli, evidence)))
    if cli.output is Format.TABLE:
        del found["bundle"]
    cli.show(found)


@command(GROUP, "export", options=IN_WORKSPACE, example="tenantry evidence export --to bundles")
def export(
    cli: Invocation,
    evidence: Annotated[str | None, typer.Argument(metavar="EVD", help="one alone, of which --to is the file")] = None,
    *,
    to: Annotated[Path, typer.Option("--to", help="directory, or file for one")],
) -> None:
    """Write bundles, which `evidence verify` and `evidence index DIR` need no server for.

    All of the workspace takes the plan's `compliance_tools`, one does not.
    """
    from tenantry.foundation.files import replace_file

    if evidence is not None:
        found = cli.client.evidence.get(cli.workspace, _id_of(cli, evidence))
        replace_file(to, _written(found["bundle"]))
        cli.show({"bundle": str(to), "state": found["state"], "sha256": found["sha256"]})
        return
    to.mkdir(parents=True, exist_ok=True)
    count = 0
    for each in cli.client.evidence.export(cli.workspace):
        replace_file(file_below(to, each["id"], ending=".json"), _written(each["bundle"]))
        count += 1
    cli.show({"directory": str(to), "bundles": count})


@command(GROUP, "lock", options=IN_WORKSPACE, example=f"tenantry evidence lock {_EVD}")
def lock(cli: Invocation, evidence: EvidenceArgument) -> None:
    """Lock it now, which else happens by itself within seconds of the end of its work."""
    cli.show(cli.client.evidence.lock(cli.workspace, _id_of(cli, evidence)))


@command(GROUP, "gc", options=IN_WORKSPACE, example="tenantry evidence gc --delete")
def gc(
    cli: Invocation,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="do it, else it is only told what would be done")] = False,
) -> None:
    """Tell what neither days, floor nor a hold keeps any longer; with --delete, delete it, as happens by itself."""
    cli.show(cli.client.evidence.collect(cli.workspace, dry_run=not delete))


@command(GROUP, "keys", options=IN_WORKSPACE, example="tenantry evidence keys")
def keys(cli: Invocation) -> None:
    """Print the keys that evidence is signed by, for --keys-file: take them once, from a server that you trust."""
    found = cli.client.evidence.index(cli.workspace)["keys"]
    if cli.output is Format.JSON:
        cli.show({"keys": found})
    else:
        write(sys.stdout, "".join(f"{each['key']}\n" for each in found))


@command(GROUP, "schema", example="tenantry evidence schema")
def schema(_cli: Invocation) -> None:
    """Print the JSON Schema of what is signed, `urn:tenantry:evidence:v1`."""
    from tenantry.capabilities.evidence.service.statement import render_schema

    write(sys.stdout, render_schema())


@command(GROUP, "verify", example="tenantry evidence verify evidence.json --keys-file evidence.key --artifact out.txt")
def verify(
    cli: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a bundle, or a bare DSSE envelope", dir_okay=False)],
    *,
    key: KeyOption = None,
    keys_file: KeysFileOption = None,
    artifact: Annotated[
        list[Path] | None,
        typer.Option("--artifact", metavar="F", dir_okay=False, help="must be one of those it proves; repeat"),
    ] = None,
) -> None:
    """Verify one piece of evidence. Asks no server, needs no login.

    It is verified that a key has signed it, and that what stands around it is what was signed; if not, what does not
    hold is named. Without --key or --keys-file the keys in the bundle are believed: that shows damage and clumsy
    forgery, and no more. With --artifact a file is held against the digests that were signed.
    """
    from tenantry.capabilities.evidence.service.bundle import read_bundle, verify_bundle

    verified = verify_bundle(read_bundle(read_file(file)), keys=read_keys(key, keys_file))
    predicate = verified.statement.predicate
    proved = {one.digest.sha256: one.name for one in verified.statement.subject[1:]}
    artifacts = {str(each): _name_of(each, proved) for each in artifact or []}
    cli.show(
        {
            "valid": True,
            "evidence": predicate.evidence,
            "tenant": predicate.tenant,
            "workspace": predicate.workspace,
            "subject": predicate.subject.id,
            "status": predicate.execution.get("status"),
            "locked_at": predicate.locked_at,
            "sha256": verified.sha256,
            "key": verified.key.name,
            "pinned": verified.pinned,
            "events": f"{predicate.audit.first}-{predicate.audit.last}",
            "log_root": predicate.audit.checkpoint.root,
            **({"artifacts": artifacts} if artifacts else {}),
        }
    )
    if cli.output is Format.TABLE and not verified.pinned:
        say(_OWN_KEYS)


@command(GROUP, "index", options=IN_WORKSPACE, example="tenantry evidence index bundles --tenant acme --out index.json")
def index(
    cli: Invocation,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="bundles below it, else the server's", file_okay=False)
    ] = None,
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", help="of this one alone, as bundles name it")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="write the whole index to this file", dir_okay=False)
    ] = None,
    key: KeyOption = None,
    keys_file: KeysFileOption = None,
    examine: Annotated[bool, typer.Option("--examine", help="of a server: examine all that is locked first")] = False,
) -> None:
    """Count evidence by tenant and state: of the workspace, or, without a server, of all bundles below a directory.

    Of a directory each bundle is verified; what names no tenant is `unknown`. Exit code 1: something is tampered with.
    """
    if directory is None:
        if tenant or out or key or keys_file:
            raise BadRequest("directory_missing", "--tenant, --out and keys are for a directory of bundles: name it")
        asked = cli.client.evidence.examine if examine else cli.client.evidence.index
        found: dict[str, Any] = dict(asked(cli.workspace))
    else:
        found = _scanned(directory, tenant, keys=read_keys(key, keys_file))
        if out is not None:
            from tenantry.foundation.files import replace_file

            replace_file(out, _written(found), mode=0o644)
    _show_index(cli, found)
    if any(counts["tampered"] for counts in found["summary"]["by_tenant"].values()) or found.get("unreadable"):
        raise typer.Exit(1)


@command(
    HOLDS,
    "place",
    options=IN_WORKSPACE,
    example="tenantry evidence hold place --case 2031-7 --reason litigation --label env=prod",
)
def place(
    cli: Invocation,
    *,
    case: Annotated[str, typer.Option("--case", help="the case that it is for")],
    reason: Annotated[str, typer.Option("--reason", help="why")],
    subject: Annotated[str | None, typer.Option("--subject", metavar="JOB", help="this job alone")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="NAME=VALUE", help="what has this label")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="RFC3339", help="what had not ended before")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="RFC3339", help="what had begun by then")] = None,
) -> None:
    """Keep evidence, and what its jobs have left, until it is released: of all the workspace, or what is named."""
    name, joint, value = (label or "").partition("=")
    if label is not None and not (name and joint):
        raise BadRequest("label_malformed", "--label takes NAME=VALUE")
    hold = cli.client.holds.place(
        cli.workspace,
        case_id=case,
        reason=reason,
        subject=subject,
        label={name: value} if label is not None else None,
        since=since,
        until=until,
    )
    cli.show(hold)


@command(HOLDS, "list", options=(*IN_WORKSPACE, *IN_PAGES), example="tenantry evidence hold list --active")
def list_holds(
    cli: Invocation,
    *,
    active: Annotated[bool | None, typer.Option("--active/--released", help="only those")] = None,
) -> None:
    """List holds, newest first, also those that were released."""
    columns = (("ID", "id"), ("CASE", "case_id"), ("REASON", "reason"), ("ACTIVE", "active"), ("PLACED", "placed_at"))
    cli.show_list(cli.client.holds.list(cli.workspace, active=active, **cli.page), columns)


@command(
    HOLDS,
    "release",
    options=IN_WORKSPACE,
    example="tenantry evidence hold release hld_01hq2m8x3v4w5y6z7a8b9c0d1e --reason settled --yes",
)
def release(
    cli: Invocation,
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="id")],
    *,
    reason: Annotated[str | None, typer.Option("--reason", help="why it is released")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Release a hold for good; what it alone kept is collected when its time is over."""
    if not yes:
        typer.confirm(f"Release hold {hold}?", abort=True, err=True)
    cli.show(cli.client.holds.release(cli.workspace, hold, reason=reason))


def _id_of(cli: Invocation, named: str) -> str:
    """Find the evidence of a job; raises BadRequest when there is none."""
    if not named.startswith("job_"):
        return named
    found = next((each["id"] for each in cli.client.evidence.list(cli.workspace, subject=named)), None)
    if found is None:
        raise BadRequest("evidence_unknown", f"there is no evidence of {named} in this workspace")
    return found


def _scanned(directory: Path, tenant: str | None, *, keys: "list[VerifierKey] | None") -> dict[str, Any]:
    from tenantry.capabilities.evidence.service.scanning import scan_directory
    from tenantry.foundation.clock import SystemClock

    try:
        return scan_directory(directory, keys=keys, now=SystemClock().now(), tenant=tenant)
    except OSError as error:
        raise BadRequest("directory_unreadable", f"{directory}: {error.strerror or error}") from error


def _show_index(cli: Invocation, found: dict[str, Any]) -> None:
    if cli.output is Format.JSON:
        cli.show(found)
        return
    columns = tuple((name.upper(), name) for name in ("tenant", "count", "wip", "locked", "tampered"))
    by_tenant = found["summary"]["by_tenant"]
    cli.show_items([{"tenant": tenant, **counts} for tenant, counts in by_tenant.items()], columns)
    for each in [*found.get("items", []), *found.get("tampered", [])]:
        if each["state"] == "tampered":
            say(f"tampered: {each.get('file') or each['id']}: {each.get('fault') or ', '.join(each['faults'])}")
    for each in found.get("unreadable", []):
        say(f"unreadable: {each['file']}")
    if found.get("pinned") is False and any(each["state"] == "locked" for each in found["items"]):
        say(_OWN_KEYS)


def _name_of(file: Path, proved: dict[str, str]) -> str:
    """Tell under which name a file was signed; raises EvidenceRefused `artifact_unknown`."""
    from tenantry.capabilities.evidence.errors import EvidenceRefused

    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror}") from error
    if digest not in proved:
        raise EvidenceRefused("artifact_unknown", f"{file} is none of what it proves: no digest of it was signed")
    return proved[digest]


def _written(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
