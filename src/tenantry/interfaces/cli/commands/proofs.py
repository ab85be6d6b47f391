"""Client certificates and signing keys of service accounts, in the chosen workspace."""

import base64
from pathlib import Path
from typing import Annotated

import typer

from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_WORKSPACE, Invocation, command

CERTIFICATES = typer.Typer(help="Client certificates of service accounts.", no_args_is_help=True)
SIGNING_KEYS = typer.Typer(help="Keys with which service accounts sign requests.", no_args_is_help=True)

_Account = Annotated[str, typer.Argument(metavar="SVC", help="id of the service account")]
_File = typer.Argument(metavar="FILE", dir_okay=False)
_EXAMPLE = "svc_01h455vb4pex5vsknk084sn02q"


def register(app: typer.Typer) -> None:
    app.add_typer(CERTIFICATES, name="certificate")
    app.add_typer(SIGNING_KEYS, name="signing-key")


@command(CERTIFICATES, "register", options=IN_WORKSPACE, example=f"tenantry certificate register {_EXAMPLE} robot.pem")
def register_certificate(cli: Invocation, account: _Account, file: Annotated[Path, _File]) -> None:
    """Let whoever shows this certificate (PEM, without its key) be the service account."""
    pem = _content_of(file).decode("ascii", errors="replace")
    cli.show(cli.client.certificates.register(service_account=account, certificate_pem=pem, workspace=cli.workspace))


@command(CERTIFICATES, "list", options=(*IN_WORKSPACE, *IN_PAGES), example=f"tenantry certificate list {_EXAMPLE}")
def list_certificates(cli: Invocation, account: _Account) -> None:
    """List the certificates of a service account."""
    columns = (("ID", "id"), ("SUBJECT", "subject"), ("STATUS", "status"), ("EXPIRES", "not_after"))
    cli.show_list(cli.client.certificates.list(service_account=account, workspace=cli.workspace, **cli.page), columns)


@command(
    CERTIFICATES,
    "revoke",
    options=IN_WORKSPACE,
    example=f"tenantry certificate revoke {_EXAMPLE} crt_01h455vb4pex5vsknk084sn02q",
)
def revoke_certificate(
    cli: Invocation, account: _Account, certificate: Annotated[str, typer.Argument(metavar="CRT", help="id")]
) -> None:
    """Make a certificate useless at once and for good."""
    revoked = cli.client.certificates.revoke(certificate, service_account=account, workspace=cli.workspace)
    cli.show(revoked, done=f"revoked {certificate}")


@command(SIGNING_KEYS, "register", options=IN_WORKSPACE, example=f"tenantry signing-key register {_EXAMPLE} robot.pub")
def register_signing_key(
    cli: Invocation,
    account: _Account,
    file: Annotated[Path, _File],
    *,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="RFC3339", help="default: after identity.key_days")
    ] = None,
) -> None:
    """Let whoever signs with this Ed25519 key be the service account; the file is its public half, PEM."""
    key = cli.client.signing_keys.register(
        service_account=account, public_key=_public_key(file), expires_at=expires_at, workspace=cli.workspace
    )
    cli.show(key)


@command(SIGNING_KEYS, "list", options=(*IN_WORKSPACE, *IN_PAGES), example=f"tenantry signing-key list {_EXAMPLE}")
def list_signing_keys(cli: Invocation, account: _Account) -> None:
    """List the signing keys of a service account."""
    columns = (("ID", "id"), ("KEYID", "keyid"), ("STATUS", "status"), ("EXPIRES", "expires_at"))
    cli.show_list(cli.client.signing_keys.list(service_account=account, workspace=cli.workspace, **cli.page), columns)


@command(
    SIGNING_KEYS,
    "revoke",
    options=IN_WORKSPACE,
    example=f"tenantry signing-key revoke {_EXAMPLE} sgk_01h455vb4pex5vsknk084sn02q",
)
def revoke_signing_key(
    cli: Invocation, account: _Account, signing_key: Annotated[str, typer.Argument(metavar="SGK", help="id")]
) -> None:
    """Make a signing key useless at once and for good."""
    revoked = cli.client.signing_keys.revoke(signing_key, service_account=account, workspace=cli.workspace)
    cli.show(revoked, done=f"revoked {signing_key}")


def _content_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest("file_unreadable", f"{file}: {error.strerror}") from error


def _public_key(file: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content_of(file)
    try:
        key = load_pem_public_key(content)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BadRequest("public_key_expected", f"{file}: not the public half of an Ed25519 key in PEM")
    return base64.b64encode(key.public_bytes_raw()).decode()
