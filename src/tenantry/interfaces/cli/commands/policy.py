"""Policies and exemptions of the chosen workspace, or with `--tenant` of a tenant."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, IN_WORKSPACE, Invocation, command
from tenantry.interfaces.cli.output import Format

GROUP = typer.Typer(help="What may run: documents of rules in layers.", no_args_is_help=True)

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_VERSIONS: Final = (
    ("KIND", "kind"),
    ("VERSION", "version"),
    ("STATE", "state"),
    ("CREATED", "created_at"),
    ("BY", "created_by"),
)
_EXEMPTIONS: Final = (
    ("EXEMPTION", "id"),
    ("KIND", "kind"),
    ("RULE", "rule"),
    ("OWNER", "owner"),
    ("UNTIL", "expires_at"),
    ("REVOKED", "revoked_at"),
    ("REASON", "reason"),
)
_REASONS: Final = (
    ("EFFECT", "effect"),
    ("LAYER", "layer"),
    ("KIND", "kind"),
    ("RULE", "rule"),
    ("MESSAGE", "message"),
    ("ALLOW WITH", "allow_with"),
    ("EXEMPTED BY", "exempted_by"),
)
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="image, command, network, deployment or rules")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION")]
FileOption = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON")]


def register(app: typer.Typer) -> None:
    app.add_typer(GROUP, name="policy")


@command(GROUP, "get", options=IN_PLACE, example="tenantry policy get image --tenant acme")
def get_policy(
    cli: Invocation,
    kind: KindArgument,
    *,
    version: Annotated[int | None, typer.Option(metavar="N", help="else that in force, or the newest")] = None,
) -> None:
    """Show a policy that the workspace or tenant has itself, as it was written."""
    found = cli.client.policies.get(kind, version=version, **cli.place)
    cli.show(found if cli.output is Format.JSON else {**found, "document": None})


@command(GROUP, "put", options=IN_PLACE, example="tenantry policy put image --file image-policy.yaml --state shadow")
def put_policy(
    cli: Invocation,
    kind: KindArgument,
    *,
    file: FileOption,
    state: Annotated[str, typer.Option(metavar="draft|shadow|enforced")] = "draft",
    if_match: IfMatchOption = None,
) -> None:
    """Make a new version of a policy; a document with a fault is refused by line, and nothing changes."""
    made = cli.client.policies.put(kind, _read(file), state=state, if_match=if_match, **cli.place)
    cli.show({name: made[name] for name in ("kind", "version", "state", "digest")} if _short(cli) else made)


@command(GROUP, "promote", options=IN_PLACE, example="tenantry policy promote image 3 enforced")
def promote_policy(
    cli: Invocation,
    kind: KindArgument,
    version: VersionArgument,
    state: Annotated[str, typer.Argument(metavar="shadow|enforced|retired")],
) -> None:
    """Bring a version into shadow or force, or retire it; waiting jobs that it denies end at once."""
    made = cli.client.policies.promote(kind, version, state, **cli.place)
    cli.show({name: made[name] for name in ("kind", "version", "state", "digest")} if _short(cli) else made)


@command(GROUP, "versions", options=(*IN_PLACE, *IN_PAGES), example="tenantry policy versions --kind image")
def list_versions(
    cli: Invocation,
    *,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="of this kind alone")] = None,
) -> None:
    """List every version that the workspace or tenant has made, newest first."""
    cli.show_list(cli.client.policies.versions(kind=kind, **cli.place, **cli.page), _VERSIONS)


@command(GROUP, "test", options=IN_WORKSPACE, example="tenantry policy test --file job.yaml")
def test_policy(cli: Invocation, *, file: FileOption) -> None:
    """Tell what all layers would say of the `job` or `deployment` in a file; nothing is made.

    A file without either is a job. A denial is the exit code 3.
    """
    found = cli.client.policies.test(cli.workspace, _spec_of(file))
    if cli.output is Format.JSON:
        cli.show(found)
    else:
        rows = [dict(reason) for reason in found["reasons"]]
        cli.show({"decision": found["decision"], "layer": found["layer"], "rule": found["rule"]})
        cli.show_items(rows, _REASONS)
    if found["decision"] == "deny":
        raise typer.Exit(_REFUSED)


@command(GROUP, "shadow-diff", options=IN_WORKSPACE, example="tenantry policy shadow-diff")
def show_shadow_diff(cli: Invocation) -> None:
    """Show which of the last decisions would have been others with what is in shadow."""
    found = cli.client.policies.shadow_diff(cli.workspace)
    if cli.output is Format.JSON:
        cli.show(found)
        return
    columns = (
        ("AT", "at"),
        ("JOB", "subject.job"),
        ("IMAGE", "subject.image"),
        ("NOW", "decision"),
        ("WITH SHADOW", "shadow_decision"),
        ("RULE", "shadow_rule"),
    )
    cli.show_items(found["changed"], columns)


@command(GROUP, "prove", options=IN_PLACE, example="tenantry policy prove image --file image-policy.yaml")
def prove_policy(cli: Invocation, kind: KindArgument, *, file: FileOption) -> None:
    """Prove that a candidate allows nothing that the policy in force denies, or show what; image and network."""
    cli.show(cli.client.policies.prove(kind, _read(file), **cli.place))


@command(
    GROUP,
    "exempt",
    options=IN_PLACE,
    example='tenantry policy exempt image "blocked_images[0]" --owner ops --reason "until 3.12 is built" --for 7d',
)
def create_exemption(
    cli: Invocation,
    kind: KindArgument,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="how the rule's name begins, as a denial tells it")],
    *,
    owner: Annotated[str, typer.Option(help="who answers for it")],
    reason: Annotated[str, typer.Option()],
    lasting: Annotated[str, typer.Option("--for", metavar="N(m|h|d)", help="how long it holds")],
) -> None:
    """Lift a rule of the workspace or tenant, and of what is below it, for a time."""
    end = (datetime.now(UTC) + _span_of(lasting)).isoformat()
    cli.show(
        cli.client.exemptions.create(kind=kind, rule=rule, owner=owner, reason=reason, expires_at=end, **cli.place)
    )


@command(GROUP, "exemptions", options=(*IN_PLACE, *IN_PAGES), example="tenantry policy exemptions")
def list_exemptions(cli: Invocation) -> None:
    """List exemptions, ended ones too."""
    cli.show_list(cli.client.exemptions.list(**cli.place, **cli.page), _EXEMPTIONS)


@command(GROUP, "revoke", options=IN_PLACE, example="tenantry policy revoke exm_…")
def revoke_exemption(cli: Invocation, exemption: Annotated[str, typer.Argument(metavar="EXM")]) -> None:
    """End an exemption now."""
    cli.client.exemptions.revoke(exemption, **cli.place)
    cli.show(None, done=f"{exemption} is revoked")


_REFUSED: Final = 3


def _short(cli: Invocation) -> bool:
    return cli.output is not Format.JSON


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror}") from None


def _spec_of(file: Path) -> dict[str, Any]:
    from tenantry.kit.strict_yaml import NotStrictYamlError, parse_yaml

    try:
        value = parse_yaml(_read(file)).value
    except NotStrictYamlError as error:
        raise BadRequest("spec_unreadable", f"{file.name}: {error}", remedy="mend the file") from None
    if not isinstance(value, dict):
        raise BadRequest("spec_unreadable", f"{file.name}: must be a mapping", remedy="as `job: {command: [...]}`")
    return value if value.keys() & {"job", "deployment"} else {"job": value}


def _span_of(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise BadRequest("span_unreadable", f"{text!r} is no span of time", remedy="as 90m, 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
