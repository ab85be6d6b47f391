import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.saving import file_below
from tenantry.interfaces.cli.commands.audit_stream import STREAMS
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command
from tenantry.interfaces.cli.note_files import NoteFiles
from tenantry.interfaces.cli.output import Format, say, show_json_line, show_line
from tenantry.interfaces.cli.terminal import write
from tenantry.interfaces.cli.verifier_keys import KeyOption, KeysFileOption, keys_in, read_file, read_keys

if TYPE_CHECKING:
    from tenantry.capabilities.audit.service.bundle_verifier import BundleReport
    from tenantry.client.log_types import AuditFilters

GROUP = typer.Typer(help="Who did what, and with which outcome.", no_args_is_help=True)

_FOLLOW_SECONDS: Final = 1.0
_FORGET_SECONDS: Final = 0.5
_OPEN: Final = "open"
_HELD: Final = "held"
_READ: Final = "audit.read"
_COLUMNS: Final = (
    ("WHEN", "occurred_at"),
    ("ACTOR", "actor.id"),
    ("ACTION", "action"),
    ("TYPE", "resource.type"),
    ("RESOURCE", "resource.id"),
    ("OUTCOME", "outcome"),
    ("REASON", "reason"),
)


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="audit")
    GROUP.add_typer(STREAMS, name="stream")


@command(
    GROUP,
    "query",
    options=(*IN_PLACE, *IN_PAGES),
    example="tenantry audit query --outcome denied --q 'quarterly report' --limit 0",
)
def query(
    cli: Invocation,
    *,
    actor: Annotated[str | None, typer.Option("--actor", help="id of who acted")] = None,
    actor_type: Annotated[
        str | None, typer.Option("--actor-type", help="user, api_key, service_account, agent_session or system")
    ] = None,
    action: Annotated[str | None, typer.Option("--action", help="a prefix: job. finds all of jobs")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="--action is the whole name")] = False,
    resource: Annotated[str | None, typer.Option("--resource", help="id or type of what it was done to")] = None,
    resource_type: Annotated[str | None, typer.Option("--resource-type", help="type of it")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="success, denied or error")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="RFC3339")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="RFC3339")] = None,
    trace: Annotated[str | None, typer.Option("--trace", help="id of a trace, as an error shows it")] = None,
    words: Annotated[str | None, typer.Option("--q", metavar="WORDS", help="words that all stand in the event")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what comes, until interrupted")] = False,
    after: Annotated[int | None, typer.Option("--after", min=0, help="with --follow: begin behind this place")] = None,
) -> None:
    """Search the audit trail of the tenant, or with --workspace of one workspace.

    --q looks in action, resource, actor, a reason that is a code, and the names in details. With --follow events come
    in the order of the sequence, oldest first, each once and none left out, however late it was committed: from now on,
    or from --after. To look is an event too, audit.read: with --follow these are shown only where --action asks for
    them.
    """
    filters: AuditFilters = {
        "actor": actor,
        "actor_type": actor_type,
        "action": action,
        "exact": True if exact else None,
        "resource": resource,
        "resource_type": resource_type,
        "outcome": outcome,
        "since": since,
        "until": until,
        "trace": trace,
        "q": words,
        "workspace": cli.workspace_id(cli.named_workspace) if cli.named_workspace else None,
    }
    if follow:
        _follow(cli, filters, after=after)
        return
    if after is not None:
        raise BadRequest("after_without_follow", "--after: is of --follow alone")
    cli.show_list(cli.client.audit.query(tenant=cli.tenant, **filters, **cli.page), _COLUMNS)


def _follow(cli: Invocation, filters: "AuditFilters", *, after: int | None) -> None:
    """Show what comes, each event a line (of JSON where that is asked for), until interrupted or the pipe is closed."""
    place = after
    if place is None:
        newest = list(cli.client.audit.query(tenant=cli.tenant, limit=20))
        place = max((event["sequence"] or 0 for event in newest), default=0)
    while True:
        page = cli.client.audit.sequence(after=place, tenant=cli.tenant, **filters)
        for event in page["items"]:
            if event["action"] == _READ and not (filters.get("action") or "").startswith("audit"):
                continue
            if cli.output is Format.JSON:
                show_json_line(event)
            else:
                show_line(event, _COLUMNS)
        place = page["reached"]
        if page["next_cursor"] is None:
            time.sleep(_FOLLOW_SECONDS)


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
            file_below(to, each["region"], ending=".root").write_text(each["note"], encoding="utf-8")
    cli.show_items(found, (("REGION", "region"), ("SIZE", "size"), ("ROOT", "root"), ("SIGNED BY", "signed_by")))


@command(GROUP, "anchor", example="tenantry audit anchor acme --output json")
def anchor(
    cli: Invocation, tenant: Annotated[str, typer.Argument(metavar="TENANT", help="id or slug of an organisation")]
) -> None:
    """Prove that a tenant's newest checkpoint is in its region's log, under a signed root; for the operator.

    The leaf is that of the checkpoint's text, its path leads to the root's note (RFC 9162). Who has kept roots of the
    region sees that no other log was shown to the tenant.
    """
    cli.show(cli.client.audit.anchor(tenant))


@command(GROUP, "keys", example="tenantry audit keys")
def keys(cli: Invocation) -> None:
    """Print the keys that the log is signed by, for --keys-file: take them once, from a server that you trust.

    They are those of the tenant's region. Where the tenant comes from another region, or a key was rotated away, keep
    the lines that you had as well: what was signed then still counts by them.
    """
    found = cli.client.audit.checkpoint()["keys"]
    if cli.output is Format.JSON:
        cli.show({"keys": found})
    else:
        write(sys.stdout, "".join(f"{each['key']}\n" for each in found))


@command(GROUP, "export", example="tenantry audit export --to acme.audit")
def export(cli: Invocation, *, to: Annotated[Path, typer.Option("--to", help="the bundle")]) -> None:
    """Write the whole log, up to its newest checkpoint, to one file that `audit verify` needs no server for."""
    cli.client.audit.export(to=to)
    cli.show({"bundle": str(to), "bytes": to.stat().st_size})


@command(GROUP, "days", options=IN_PAGES, example="tenantry audit days --limit 7")
def days(cli: Invocation) -> None:
    """List the days (UTC) that have events, the newest first; a closed one has its digest."""
    columns = (
        ("DAY", "day"),
        ("EVENTS", "events"),
        ("CLOSED", "closed_at"),
        ("BYTES", "size_bytes"),
        ("SHA256", "sha256"),
    )
    cli.show_list(cli.client.audit.days(**cli.page), columns)


@command(GROUP, "day", example="tenantry audit day 2030-01-31 --to 2030-01-31.jsonl")
def day(
    cli: Invocation,
    day: Annotated[str, typer.Argument(metavar="DAY", help="YYYY-MM-DD, in UTC")],
    *,
    to: Annotated[Path, typer.Option("--to", help="the file")],
) -> None:
    """Write the events of a day to a file of JSON lines, with flat keys. A day that is not over grows."""
    cli.client.audit.day(day, to=to)
    cli.show({"file": str(to), "bytes": to.stat().st_size})


@command(GROUP, "forget", example="tenantry audit forget usr_01hq2m8x3v4w5y6z7a8b9c0d1e --wait")
def forget(
    cli: Invocation,
    principal: Annotated[
        str, typer.Argument(metavar="PRINCIPAL", help="id of a user, a service account or a key, also of one gone")
    ],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="until it is done")] = False,
) -> None:
    """Forget what the log keeps beside the events that name one person: addresses, and what else is not public.

    The events stay, with the id in them, and every proof; what is forgotten comes back from nowhere. Meant are the
    events up to now. It is refused while a legal hold is active. Copies that were sent elsewhere are not reached.
    """
    asked = cli.client.audit.forget(principal)
    while wait and asked["state"] == _OPEN:
        time.sleep(_FORGET_SECONDS)
        asked = cli.client.audit.forgetting(asked["id"])
    cli.show(asked)
    if cli.output is Format.TABLE and asked["state"] == _HELD:
        say("a legal hold keeps what would be forgotten: it goes on when there is none")


@command(GROUP, "forgettings", options=IN_PAGES, example="tenantry audit forgettings")
def forgettings(cli: Invocation) -> None:
    """List requests to forget somebody, the newest first: how many events were looked at, and forgotten."""
    columns = (
        ("ID", "id"),
        ("PRINCIPAL", "principal"),
        ("STATE", "state"),
        ("LOOKED AT", "looked_at"),
        ("FORGOTTEN", "forgotten"),
        ("REQUESTED", "requested_at"),
    )
    cli.show_list(cli.client.audit.forgettings(**cli.page), columns)


@command(GROUP, "get", example="tenantry audit get evt_01hq2m8x3v4w5y6z7a8b9c0d1e")
def get(cli: Invocation, event: Annotated[str, typer.Argument(metavar="EVENT", help="id of an event")]) -> None:
    """Show one event. Of one that has left the log after its time its place and leaf hash are told (event_erased)."""
    cli.show(cli.client.audit.event(event))


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
    the first bad one is named. What has left the log after its time must have been signed away, and is told. Without
    --key or --keys-file the keys in the bundle are believed: that shows damage and clumsy forgery, and no more, since
    who forges the whole file brings a key. With --checkpoint a log that was rolled back, or rewritten and signed anew,
    is found out: keep checkpoints where the log's keeper cannot reach. With --receipt an event is found out that was
    removed before it had its place: set TENANTRY_RECEIPTS, and commands keep receipts.
    """
    from tenantry.capabilities.audit.service.bundle_verifier import verify_bundle

    notes, receipts = NoteFiles(checkpoint or []), NoteFiles(receipt or [])
    try:
        report = verify_bundle(file, keys=read_keys(key, keys_file), witnessed=notes, receipts=receipts)
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror or error}") from error
    unreadable = notes.unreadable + receipts.unreadable
    cli.show({**_shown(report), "unreadable": unreadable})
    if cli.output is Format.TABLE and unreadable:
        say(f"{unreadable} lines of --checkpoint and --receipt cannot be read, and were passed over")
    if cli.output is Format.TABLE and report.pending:
        say(f"{report.pending} events with receipts are not in it, and may be younger: verify a later export as well")
    if cli.output is Format.TABLE and not report.pinned:
        say("the keys are the bundle's own: name those that you know with --key or --keys-file")


def _shown(report: "BundleReport") -> dict[str, object]:
    left = report.erasure
    return {
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
        "erased": left.size if left else 0,
        "erased_at": left.made_at.isoformat() if left else None,
        "kept_days": left.days if left else None,
    }
