import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command
from tenantry.interfaces.cli.output import Format, say
from tenantry.interfaces.cli.verifier_keys import KeyOption, KeysFileOption, keys_in, read_file, read_keys

GROUP = typer.Typer(help="Who did what, and with which outcome.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="audit")


@command(
    GROUP,
    "query",
    options=(*IN_PLACE, *IN_PAGES),
    example="tenantry audit query --outcome denied --since 2030-01-01T00:00:00Z --limit 0",
)
def query(
    cli: Invocation,
    *,
    actor: Annotated[str | None, typer.Option("--actor", help="id of who acted")] = None,
    action: Annotated[str | None, typer.Option("--action", help="a prefix: job. finds all of jobs")] = None,
    resource: Annotated[str | None, typer.Option("--resource", help="id or type of what it was done to")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="success, denied or error")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="RFC3339")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="RFC3339")] = None,
) -> None:
    """Search the audit trail of the tenant, or with --workspace of one workspace."""
    columns = (
        ("WHEN", "occurred_at"),
        ("ACTOR", "actor.id"),
        ("ACTION", "action"),
        ("TYPE", "resource.type"),
        ("RESOURCE", "resource.id"),
        ("OUTCOME", "outcome"),
        ("REASON", "reason"),
    )
    events = cli.client.audit.query(
        actor=actor,
        action=action,
        resource=resource,
        outcome=outcome,
        since=since,
        until=until,
        workspace=cli.workspace_id(cli.named_workspace) if cli.named_workspace else None,
        tenant=cli.tenant,
        **cli.page,
    )
    cli.show_list(events, columns)


@command(GROUP, "checkpoint", example="tenantry audit checkpoint --to acme.checkpoint")
def checkpoint(
    cli: Invocation,
    *,
    to: Annotated[Path | None, typer.Option("--to", help="write the signed note to this file, to be kept")] = None,
) -> None:
    """Show the newest signed checkpoint of the log: whoever keeps one sees later whether the log begins with it."""
    found = cli.client.audit.checkpoint()
    if to is not None:
        to.write_text(found["note"], encoding="utf-8")
    cli.show({name: found[name] for name in ("origin", "size", "root", "made_at")} | {"note": found["note"]})


@command(GROUP, "roots", example="tenantry audit roots --to roots/")
def roots(
    cli: Invocation,
    *,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="write each signed note to REGION.root in it, to be kept")
    ] = None,
) -> None:
    """Show the signed root of each region's log, in which all its tenants' checkpoints are; for the operator."""
    found = list(cli.client.audit.roots())
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        for each in found:
            (to / f"{each['region']}.root").write_text(each["note"], encoding="utf-8")
    cli.show_items(found, (("REGION", "region"), ("SIZE", "size"), ("ROOT", "root"), ("SIGNED BY", "signed_by")))


@command(GROUP, "export", example="tenantry audit export --to acme.audit")
def export(cli: Invocation, *, to: Annotated[Path, typer.Option("--to", help="the bundle")]) -> None:
    """Write the whole log, up to its newest checkpoint, to one file that `audit verify` needs no server for."""
    cli.client.audit.export(to=to)
    cli.show({"bundle": str(to), "bytes": to.stat().st_size})


@command(GROUP, "proof", example="tenantry audit proof evt_01hq2m8x3v4w5y6z7a8b9c0d1e")
def proof(cli: Invocation, event: Annotated[str, typer.Argument(metavar="EVENT", help="id of an event")]) -> None:
    """Prove that an event is in the log: its leaf, and the path from there to a signed checkpoint (RFC 9162)."""
    cli.show(cli.client.audit.proof(event))


@command(GROUP, "consistency", example="tenantry audit consistency acme.checkpoint --keys-file log.keys")
def consistency(
    cli: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a checkpoint that you have kept", dir_okay=False)],
    *,
    key: KeyOption = None,
    keys_file: KeysFileOption = None,
) -> None:
    """Prove that the log begins with what it was at a checkpoint of yours: nothing in it was changed since.

    The server answers with its newest checkpoint and a proof, which is verified here. Without --key or --keys-file the
    server's word for its keys is taken: that does not help against a server that lies.
    """
    from tenantry.capabilities.audit.service.consistency import KeptCheckpoint

    kept = KeptCheckpoint.parse(read_file(file))
    proof, known = cli.client.audit.consistency(kept.size), read_keys(key, keys_file)
    newest = proof["checkpoint"]
    keys = known or list(keys_in([one["key"] for one in newest["keys"]], "the server"))
    size = kept.require_within(newest["note"].encode(), proof["path"], keys=keys)
    cli.show({"consistent": True, "from": kept.size, "to": size, "pinned": known is not None})


@command(
    GROUP,
    "verify",
    example="tenantry audit verify acme.audit --keys-file log.keys --checkpoint kept.note --receipt receipts.jsonl",
)
def verify(
    cli: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="an audit bundle", dir_okay=False)],
    *,
    key: KeyOption = None,
    keys_file: KeysFileOption = None,
    receipt: Annotated[
        list[Path] | None,
        typer.Option("--receipt", metavar="F", dir_okay=False, help="what TENANTRY_RECEIPTS named; repeat"),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="F", dir_okay=False, help="one from elsewhere, or a witness's file of them; repeat"
        ),
    ] = None,
) -> None:
    """Verify a tenant's whole audit log from an exported bundle. Asks no server, needs no login.

    It is verified that the events are those the log has signed, all of them, in their order, and of one tenant; if not,
    the first bad one is named. Without --key or --keys-file the keys in the bundle are believed: that shows damage and
    clumsy forgery, and no more, since who forges the whole file brings a key. With --checkpoint a log that was rolled
    back, or rewritten and signed anew, is found out: keep checkpoints where the log's keeper cannot reach. With
    --receipt an event is found out that was removed before it had its place: set TENANTRY_RECEIPTS, and commands keep
    receipts.
    """
    from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle

    notes = [note for each in checkpoint or [] for note in _notes(read_file(each))]
    receipts = [note for each in receipt or [] for note in _notes(read_file(each))]
    try:
        report = verify_bundle(file, keys=read_keys(key, keys_file), witnessed=notes, receipts=receipts)
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror or error}") from error
    cli.show(
        {
            "valid": True,
            "tenant": report.tenant,
            "size": report.size,
            "root": report.root,
            "made_at": report.made_at.isoformat() if report.made_at else None,
            "keys": list(report.keys),
            "pinned": report.pinned,
            "witnessed": report.witnessed,
            "receipts": report.receipts,
            "pending": report.pending,
        }
    )
    if cli.output is Format.TABLE and not report.pinned:
        say("the keys are the bundle's own: name those that you know with --key or --keys-file")


def _notes(content: bytes) -> Iterator[bytes]:
    """Take the one checkpoint of a file, or of a witness's file each: a line there is JSON with the note in it."""
    if not content.startswith(b"{"):
        yield content
        return
    try:
        for line in content.splitlines():
            yield json.loads(line)["note"].encode()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest("checkpoint_unreadable", "neither a checkpoint nor a witness's file of them") from error
