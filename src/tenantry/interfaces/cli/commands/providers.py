"""How people get into a tenant: identity providers and invitations."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.client.calls import given
from tenantry.client.errors import BadRequest
from tenantry.interfaces.cli.commands.tenant import IfMatchOption
from tenantry.interfaces.cli.invocation import IN_PAGES, IN_PLACE, Invocation, command
from tenantry.interfaces.cli.secret_input import read_secret

PROVIDERS = typer.Typer(help="OpenID providers that let people in.", no_args_is_help=True)
INVITATIONS = typer.Typer(help="Roles that wait for an e-mail address.", no_args_is_help=True)

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER", help="id")]
SecretFileOption = Annotated[
    Path | None, typer.Option("--client-secret-file", help="file that holds it", exists=True, dir_okay=False)
]
RulesFileOption = Annotated[
    Path | None,
    typer.Option("--rules-file", help='JSON: [{"claim": …, "equals": …, "role": …}, …]', exists=True, dir_okay=False),
]
ScopesOption = Annotated[list[str] | None, typer.Option("--scope", help="besides openid; may be repeated")]
RedirectsOption = Annotated[
    list[str] | None, typer.Option("--redirect", metavar="URL", help="address of a program; may be repeated")
]

_EXAMPLE = "idp_01h455vb4pex5vsknk084sn02q"


def register(app: typer.Typer) -> None:
    app.add_typer(PROVIDERS, name="identity-provider")
    app.add_typer(INVITATIONS, name="invitation")


@command(
    PROVIDERS,
    "create",
    options=("tenant",),
    example="tenantry identity-provider create corp --issuer https://login.acme.example --client-id tenantry "
    "--client-secret-file secret.txt --scope email --rules-file rules.json",
)
def create_provider(
    cli: Invocation,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="its name in addresses")],
    *,
    issuer: Annotated[str, typer.Option("--issuer", metavar="URL", help="what it calls itself, to the letter")],
    client_id: Annotated[str, typer.Option("--client-id")],
    name: Annotated[str | None, typer.Option("--name", help="default: the slug")] = None,
    client_secret_file: SecretFileOption = None,
    public: Annotated[bool, typer.Option("--public", help="a client without a secret")] = False,
    scopes: ScopesOption = None,
    rules_file: RulesFileOption = None,
    redirects: RedirectsOption = None,
    invitations: Annotated[
        bool, typer.Option("--invitations/--no-invitations", help="whether its word on addresses redeems them")
    ] = True,
) -> None:
    """Let people in by a provider, and give them roles by rules over its claims.

    The client's secret is read from --client-secret-file, else asked for on a terminal, else read from standard input.
    """
    secret = None
    if not public:
        secret = _read_client_secret(client_secret_file)
    elif client_secret_file is not None:
        raise BadRequest("client_secret_unwanted", "--public is a client without a secret: leave the file out")
    made = cli.client.identity_providers.create(
        tenant=cli.home_tenant,
        slug=slug,
        name=name or slug,
        issuer=issuer,
        client_id=client_id,
        client_secret=secret,
        scopes=scopes,
        rules=_rules_of(rules_file),
        redirects=redirects,
        accepts_invitations=invitations,
    )
    cli.show(made)


@command(PROVIDERS, "list", options=("tenant", *IN_PAGES), example="tenantry identity-provider list --tenant acme")
def list_providers(cli: Invocation) -> None:
    """List the providers of the tenant, by default the credential's own."""
    columns = (("ID", "id"), ("SLUG", "slug"), ("NAME", "name"), ("ISSUER", "issuer"), ("STATUS", "status"))
    cli.show_list(cli.client.identity_providers.list(tenant=cli.home_tenant, **cli.page), columns)


@command(PROVIDERS, "get", options=("tenant",), example=f"tenantry identity-provider get {_EXAMPLE}")
def get_provider(cli: Invocation, provider: ProviderArgument) -> None:
    """Show a provider with its rules, never its secret."""
    cli.show(cli.client.identity_providers.get(provider, tenant=cli.home_tenant))


@command(
    PROVIDERS,
    "update",
    options=("tenant",),
    example=f"tenantry identity-provider update {_EXAMPLE} --rules-file rules.json",
)
def update_provider(
    cli: Invocation,
    provider: ProviderArgument,
    *,
    name: Annotated[str | None, typer.Option("--name")] = None,
    client_id: Annotated[str | None, typer.Option("--client-id")] = None,
    client_secret_file: SecretFileOption = None,
    scopes: ScopesOption = None,
    rules_file: RulesFileOption = None,
    redirects: RedirectsOption = None,
    invitations: Annotated[bool | None, typer.Option("--invitations/--no-invitations")] = None,
    status: Annotated[str | None, typer.Option("--status", help="active, or disabled: ends all its logins")] = None,
    if_match: IfMatchOption = None,
) -> None:
    """Change a provider; new rules count from each person's next login on."""
    secret = None
    if client_secret_file is not None:
        secret = _read_client_secret(client_secret_file)
    changes = given(
        name=name,
        client_id=client_id,
        client_secret=secret,
        scopes=scopes,
        rules=_rules_of(rules_file),
        redirects=redirects,
        accepts_invitations=invitations,
        status=status,
    )
    if not changes:
        raise BadRequest(
            "changes_missing", "nothing to change was given", remedy="tenantry identity-provider update -h"
        )
    cli.show(cli.client.identity_providers.update(provider, changes, tenant=cli.home_tenant, if_match=if_match))


@command(PROVIDERS, "delete", options=("tenant",), example=f"tenantry identity-provider delete {_EXAMPLE}")
def delete_provider(cli: Invocation, provider: ProviderArgument) -> None:
    """Remove a provider, its logins, and what its rules gave."""
    removed = cli.client.identity_providers.delete(provider, tenant=cli.home_tenant)
    cli.show(removed, done=f"deleted {provider}")


@command(
    INVITATIONS,
    "create",
    options=IN_PLACE,
    example="tenantry invitation create guest@partner.example --role auditor --tenant acme",
)
def create_invitation(
    cli: Invocation,
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    role: Annotated[str, typer.Option("--role", help="slug")],
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="RFC3339", help="default: after seven days")
    ] = None,
) -> None:
    """Offer a role to whoever logs in with this address, verified. There is no mail: tell them yourself."""
    cli.show(cli.client.invitations.create(email=email, role=role, expires_at=expires_at, **cli.place))


@command(INVITATIONS, "list", options=(*IN_PLACE, *IN_PAGES), example="tenantry invitation list --tenant acme")
def list_invitations(cli: Invocation) -> None:
    """List invitations."""
    columns = (("ID", "id"), ("EMAIL", "email"), ("ROLE", "role"), ("STATUS", "status"), ("EXPIRES", "expires_at"))
    cli.show_list(cli.client.invitations.list(**cli.place, **cli.page), columns)


@command(INVITATIONS, "revoke", options=IN_PLACE, example="tenantry invitation revoke inv_01h455vb4pex5vsknk084sn02q")
def revoke_invitation(
    cli: Invocation, invitation: Annotated[str, typer.Argument(metavar="INVITATION", help="id")]
) -> None:
    """Take back an invitation that nobody has taken up."""
    cli.show(cli.client.invitations.revoke(invitation, **cli.place), done=f"revoked {invitation}")


def _read_client_secret(file: Path | None) -> str:
    if not (secret := read_secret("Client secret", file)):
        raise BadRequest(
            "client_secret_missing",
            "no client secret was given",
            remedy="--client-secret-file FILE, or on standard input; --public for a client that has none",
        )
    return secret


def _rules_of(file: Path | None) -> list[dict[str, Any]] | None:
    """Read rules; their names and values are the server's to judge."""
    if file is None:
        return None
    try:
        rules = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRequest("rules_unreadable", f"{file}: {error}") from error
    if not isinstance(rules, list):
        raise BadRequest("rules_unreadable", f"{file}: a list of rules is expected", remedy="[{…}, {…}]")
    return rules
