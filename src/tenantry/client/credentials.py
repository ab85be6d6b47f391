"""Where the address and the key, or the tokens of a login, come from.

Explicit arguments, then `TENANTRY_URL` and `TENANTRY_KEY`, then `$TENANTRY_HOME/credentials.json`. A stored key goes to
the address it was stored with and to no other: a URL from somewhere else needs a key from somewhere else.

`TENANTRY_CA` names a file with the roots that a server's certificate must lead up to, instead of the machine's own.
`TENANTRY_RECEIPTS` names a file that the receipts of what is done are appended to.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from tenantry.client.errors import CredentialsError
from tenantry.client.private import read_private_json, write_private_json
from tenantry.client.proofs import Proof

DEFAULT_URL = "http://127.0.0.1:8000"
FILE_NAME = "credentials.json"
_LOGIN = "run `tenantry login`, or set TENANTRY_URL and TENANTRY_KEY"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An address without trailing slash, and a key that never shows in `repr`, empty where there is another `proof`.

    `ca` is what `TENANTRY_CA` names, `tenant` what `TENANTRY_TENANT` does: each request then names that tenant, as the
    platform's key must do that visits one.
    """

    url: str
    key: str = field(repr=False)
    ca: Path | None = None
    proof: Proof | None = None
    login: Mapping[str, str] | None = field(default=None, repr=False)
    """What was stored of a login, whose access token `key` is then."""
    file: Path | None = None
    """Where that login is kept, for what comes after it."""
    tenant: str | None = None
    receipts: Path | None = None
    """Where the receipts of what is done are kept."""

    def __post_init__(self) -> None:
        if self.proof is not None and not self.key:
            return
        if not self.key.isascii() or not self.key.isprintable() or " " in self.key or not self.key:
            raise CredentialsError("key_malformed", "an API key is printable ASCII without spaces", remedy=_LOGIN)


def home_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """`TENANTRY_HOME`, else `/var/lib/tenantry` as root, else `~/.tenantry`."""
    if named := environment.get("TENANTRY_HOME"):
        return Path(named)
    return Path("/var/lib/tenantry") if os.geteuid() == 0 else Path.home() / ".tenantry"


def load(
    *,
    url: str | None = None,
    key: str | None = None,
    home: Path | None = None,
    proof: Proof | None = None,
    receipts: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Credentials:
    """Raise CredentialsError when there are none, when they are unsafe, or when the key would leave in clear text."""
    if proof is not None:
        allow_http = environment.get("TENANTRY_ALLOW_HTTP") == "1"
        named_url = url or environment.get("TENANTRY_URL") or stored_url(home=home, environment=environment)
        found = Credentials(checked_url(named_url or DEFAULT_URL, allow_http=allow_http), "", proof=proof)
    else:
        found = _load(url=url, key=key, home=home, environment=environment)
    named = environment.get("TENANTRY_CA")
    kept = environment.get("TENANTRY_RECEIPTS")
    return replace(
        found,
        ca=Path(named) if named else None,
        tenant=environment.get("TENANTRY_TENANT") or None,
        receipts=receipts or (Path(kept) if kept else None),
    )


def of_nobody(url: str, *, environment: Mapping[str, str] = os.environ) -> Credentials:
    """Give an address alone, for what asks for no credential."""
    named = environment.get("TENANTRY_CA")
    return Credentials(url, "-", ca=Path(named) if named else None)


def _load(*, url: str | None, key: str | None, home: Path | None, environment: Mapping[str, str]) -> Credentials:
    url = url or environment.get("TENANTRY_URL") or None
    key = key or environment.get("TENANTRY_KEY") or None
    allow_http = environment.get("TENANTRY_ALLOW_HTTP") == "1"
    wanted = checked_url(url, allow_http=allow_http) if url else None
    if key:
        return Credentials(wanted or stored_url(home=home, environment=environment) or DEFAULT_URL, key)
    stored = _stored(home or home_directory(environment), allow_http=allow_http)
    if stored is None:
        raise CredentialsError("credentials_missing", "no API key is known", remedy=_LOGIN)
    if wanted and wanted != stored.url:
        raise CredentialsError(
            "credentials_of_another_server",
            f"the stored key belongs to {stored.url} and is not sent to {wanted}",
            remedy=f"tenantry login --url {wanted}",
        )
    return stored


def save(credentials: Credentials, *, home: Path | None = None) -> Path:
    """Store for later commands (0600); returns the file."""
    path = (home or home_directory()) / FILE_NAME
    write_private_json(path, {"url": credentials.url, "key": credentials.key})
    return path


def stored_url(*, home: Path | None = None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Find the address of the stored credentials, None without any."""
    stored = _stored(home or home_directory(environment), allow_http=environment.get("TENANTRY_ALLOW_HTTP") == "1")
    return stored.url if stored else None


def _stored(home: Path, *, allow_http: bool) -> Credentials | None:
    path = home / FILE_NAME
    content = read_private_json(path)
    if content is None:
        return None
    url, key, login = content.get("url"), content.get("key"), content.get("login")
    if isinstance(login, dict):
        key = login.get("access_token")
    if not isinstance(url, str) or not isinstance(key, str):
        raise CredentialsError("file_malformed", f"{path} needs the members url and key", remedy=_LOGIN)
    if isinstance(login, dict):
        return Credentials(checked_url(url, allow_http=allow_http), key, login=login, file=path)
    return Credentials(checked_url(url, allow_http=allow_http), key)


def checked_url(url: str, *, allow_http: bool = False) -> str:
    """Normalise an address.

    Plain http is for this machine; elsewhere it shows the key to the network and needs TENANTRY_ALLOW_HTTP=1.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise CredentialsError("url_malformed", "the server's address is not a URL") from error
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise CredentialsError(
            "url_malformed", "the server's address must read http(s)://host[:port][/path], without user or query"
        )
    if parts.scheme == "http" and not is_loopback(host) and not allow_http:
        raise CredentialsError(
            "url_in_clear_text",
            f"http to {host} would show the key to the network",
            remedy="use https, or set TENANTRY_ALLOW_HTTP=1 where the network in between is yours",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
