import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.client.credentials import (
    DEFAULT_URL,
    FILE_NAME,
    Credentials,
    checked_url,
    home_directory,
    save,
    stored_url,
)
from tenantry.client.errors import ApiError, BadRequest, CredentialsError
from tenantry.interfaces.cli.choices import store_workspace, stored_workspace
from tenantry.interfaces.cli.invocation import Invocation, command
from tenantry.interfaces.cli.output import Format, cell, member, say, show_json, show_record, show_table
from tenantry.interfaces.cli.secret_input import read_secret

if TYPE_CHECKING:
    from tenantry.client.surface import Client


def register(app: typer.Typer) -> None:
    command(app, "login", example="tenantry login --url https://tenantry.example.com --key-file key.txt")(login)
    command(app, "logout", example="tenantry logout --everywhere")(logout)
    command(app, "whoami", example="tenantry whoami --output json")(whoami)


def login(
    cli: Invocation,
    *,
    url: Annotated[str | None, typer.Option("--url", help="the server's address")] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="file that holds the API key", exists=True, dir_okay=False)
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="SLUG", help="log in by a browser, at this tenant's provider")
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", metavar="SLUG", help="which one, of several")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="show the address instead of opening it")] = False,
) -> None:
    """Verify an API key, or log in by a browser, and store that for later commands (0600).

    With --tenant the tenant's identity provider says who you are; the tokens renew themselves, for 30 days at most.
    Else a key is read from --key-file, else asked for on a terminal, else read from standard input; never from
    arguments, which every user of this machine could see.
    """
    from tenantry.client.surface import Client

    address = checked_url(url or _known_url(), allow_http=os.environ.get("TENANTRY_ALLOW_HTTP") == "1")
    if tenant is not None:
        if key_file is not None:
            raise BadRequest("login_ambiguous", "--tenant logs in by a browser, --key-file by a key: choose one")
        _log_in_by_browser(cli, address, tenant=tenant, provider=provider, opens_browser=not no_browser)
        return
    if not (key := read_secret("API key", key_file)):
        raise BadRequest("key_missing", "no key was given", remedy="--key-file FILE, or on standard input")
    credentials = Credentials(address, key)
    with Client(url=credentials.url, key=credentials.key) as client:
        me = client.me()
        path = save(credentials)
        _forget_foreign_workspace(client)
    if cli.output is Format.JSON:
        cli.show(me)
    say(f"logged in at {address} as {cell(member(me, 'principal.id'))}; stored in {path}")
    if os.environ.get("TENANTRY_KEY"):
        say("note: TENANTRY_KEY is set and goes before what was stored")


def logout(
    cli: Invocation,
    *,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="end all your logins, not this one alone")] = False,
) -> None:
    """End a login by browser, here and at the server. A key is revoked instead: `tenantry key revoke`."""
    ended = cli.client.logout(everywhere=everywhere)
    (home_directory() / FILE_NAME).unlink(missing_ok=True)
    cli.show(ended if cli.output is Format.JSON else None, done=f"logged out ({ended['ended']} ended)")


def _log_in_by_browser(
    cli: Invocation, address: str, *, tenant: str, provider: str | None, opens_browser: bool
) -> None:
    from tenantry.client.logins import store
    from tenantry.client.surface import Client
    from tenantry.interfaces.cli.browser_login import log_in

    path = home_directory() / FILE_NAME
    tokens = log_in(address, tenant=tenant, provider=provider, opens_browser=opens_browser)
    with Client(url=address, key=tokens.access_token) as client:
        me = client.me()
        store(path, url=address, tokens=tokens)
        _forget_foreign_workspace(client)
    if cli.output is Format.JSON:
        cli.show(me)
    say(f"logged in at {address} as {cell(member(me, 'principal.id'))}; stored in {path}")
    if os.environ.get("TENANTRY_KEY"):
        say("note: TENANTRY_KEY is set and goes before what was stored")


def whoami(cli: Invocation) -> None:
    """Show who the credential is and what it may do where."""
    me = cli.client.me()
    if cli.output is Format.JSON:
        show_json(me)
        return
    show_record({name: me.get(name) for name in ("principal", "tenant", "permissions")})
    show_table(me.get("workspaces", []), (("WORKSPACE", "id"), ("ROLES", "roles"), ("PERMISSIONS", "permissions")))


def _forget_foreign_workspace(client: "Client") -> None:
    """Let what an earlier key chose count only while this one reaches it."""
    url = client.transport.url
    if chosen := stored_workspace(url):
        try:
            client.workspaces.get(chosen)
        except ApiError:
            store_workspace(url=url, workspace=None)


def _known_url() -> str:
    if named := os.environ.get("TENANTRY_URL"):
        return named
    # A credentials file that must not be used is what logging in replaces.
    with contextlib.suppress(CredentialsError):
        return stored_url() or DEFAULT_URL
    return DEFAULT_URL
