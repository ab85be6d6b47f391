"""Taking organisations along and letting them go: verbs of `tenantry tenant`."""

import base64
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tenantry.client.errors import BadRequest
from tenantry.client.types import TenantOperation
from tenantry.foundation.signatures import is_signed, key_id_of
from tenantry.interfaces.cli.invocation import Invocation, command
from tenantry.interfaces.cli.output import Format, say, show_json

GROUP = typer.Typer()

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="id or slug")]
_LOOK_SECONDS: Final = 1.0


@command(GROUP, "export", example="tenantry tenant export acme --to acme.tar")
def export(
    cli: Invocation,
    tenant: TenantArgument,
    *,
    to: Annotated[Path, typer.Option("--to", help="the archive; its key is written beside it, as FILE.key")],
) -> None:
    """Write everything an organisation has to one archive; with a key of that organisation's administrator."""
    tenants = cli.client.tenants
    operation = _ended(tenants.export(tenant), lambda operation: tenants.operation(tenant, operation))
    told = tenants.export_key(tenant, operation["id"])
    _write_private(Path(f"{to}.key"), told["key"] + "\n")
    os.umask(0o077)  # the archive too is its owner's alone: users and trail stand in it in clear
    tenants.download_export(tenant, operation["id"], to=to, sha256=told["sha256"])
    cli.show({"archive": str(to), "key_file": f"{to}.key", "sha256": told["sha256"]})
    say(f"keep {to}.key apart from the archive: together they open everything in it")


@command(GROUP, "import", example="tenantry tenant import acme.tar --key-file acme.tar.key --region eu")
def import_(
    cli: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what `tenant export` wrote", exists=True)],
    *,
    key_file: Annotated[Path, typer.Option("--key-file", help="the key of its export", exists=True)],
    region: Annotated[str, typer.Option("--region", help="where its content stays from now on")],
    isolation: Annotated[str | None, typer.Option("--isolation", help="default: as it was")] = None,
    slug: Annotated[str | None, typer.Option("--slug", help="default: as it was")] = None,
) -> None:
    """Put an organisation back from its archive; shows its owner's key, once."""
    started = cli.client.tenants.import_archive(
        path=file, key=key_file.read_text().strip(), region=region, isolation=isolation, slug=slug
    )
    cli.show(started)
    if cli.output is Format.TABLE:
        say("keep bootstrap_key.secret now: it is not shown again, and valid once the import has succeeded")
    _ended(started, cli.client.tenants.import_operation)
    say("imported")


@command(GROUP, "certificate", example="tenantry tenant certificate acme --to acme.certificate.json")
def certificate(
    cli: Invocation,
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="id or slug")] = None,
    *,
    to: Annotated[Path | None, typer.Option("--to", help="write it to this file")] = None,
    verify: Annotated[Path | None, typer.Option("--verify", help="check such a file instead; asks no server")] = None,
    key_id: Annotated[str | None, typer.Option("--key-id", help="the installation that must have signed it")] = None,
) -> None:
    """Show or check what is left of an erased organisation: counts and digests, signed by the installation."""
    if verify is not None:
        cli.show(_verified(verify, key_id=key_id))
        return
    if tenant is None:
        raise BadRequest("tenant_missing", "nothing says which organisation", remedy="TENANT, or --verify FILE")
    shown = cli.client.tenants.certificate(tenant)
    if to is None:
        show_json(shown)
        return
    to.write_text(json.dumps(shown, indent=2) + "\n")
    cli.show({"certificate": str(to), "key_id": shown["key_id"]})


def _ended(operation: TenantOperation, look: Callable[[str], TenantOperation]) -> TenantOperation:
    """Wait for the end; raises BadRequest when it is not the one that was wished."""
    while operation["status"] == "running":
        time.sleep(_LOOK_SECONDS)
        operation = look(operation["id"])
    if operation["status"] != "succeeded":
        raise BadRequest("operation_failed", f"it has {operation['status']}: {operation['failure']}")
    return operation


def _verified(file: Path, *, key_id: str | None) -> dict[str, Any]:
    """Check a certificate's signature; raises BadRequest for one that is not signed so."""
    try:
        shown = json.loads(file.read_text())
        document = shown["document"]
        signature, key = (base64.b64decode(shown[name], validate=True) for name in ("signature", "public_key"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest("certificate_unreadable", f"{file} is no certificate") from error
    if not is_signed(document, signature=signature, public_key=key):
        raise BadRequest("certificate_forged", f"{file} is not signed by the key in it: it was altered")
    if key_id is not None and key_id != key_id_of(key):
        raise BadRequest("certificate_foreign", f"{file} was signed by another installation: {key_id_of(key)}")
    return {"valid": True, "key_id": key_id_of(key), "tenant": document.get("tenant"), "id": document.get("id")}


def _write_private(path: Path, text: str) -> None:
    """Write for this user alone, from the first byte."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
