"""What a channel's address may be, what of it is shown, and how it is sealed. Examined when written and when sent to.

Nothing is looked up here: a name is resolved when something is sent, and its addresses examined then.
"""

import ipaddress
import json
import re
import secrets
import socket
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit
from uuid import UUID

from tenantry.capabilities.notifications.errors import address_invalid, address_private
from tenantry.capabilities.notifications.types import Address, ChannelKind
from tenantry.engines.envelope.keyring import Keyring
from tenantry.kit.public_addresses import is_public

MAX_ADDRESS: Final = 2000
VENDOR_SCHEMAS: Final = frozenset({"slack", "discord", "tgram", "gchat", "pagerduty", "opsgenie", "pover"})
"""Apprise's services whose host their plugin fixes; the rest of the address is tokens."""
HOST_SCHEMAS: Final = frozenset({"mmost", "mmosts", "gotify", "gotifys", "ntfy", "ntfys"})
"""Those that one hosts oneself: the address names a host."""

_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
_MAX_EMAIL: Final = 254
_PLAIN: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""Printable ASCII without space and backslash, which parsers of addresses disagree about."""
_PARAMETERS: Final = frozenset({"to", "priority", "thread", "overflow"})
"""Of apprise's parameters those that only say where in the service. Others read templates from files, add headers,
switch the check of certificates off."""
_TAIL: Final = 4
_LONG: Final = 16


class AddressBook:
    """Examines addresses by the installation's rules, and seals them under the tenant's keyset."""

    def __init__(self, keyring: Keyring, *, allow_private: bool) -> None:
        self._keyring = keyring
        self._allow_private = allow_private

    def require(self, kind: ChannelKind, text: str) -> None:
        """Raise Invalid `address_invalid` or `address_private` for what nothing is to be sent to."""
        require_address(kind, text, allow_private=self._allow_private)

    async def seal(self, address: Address, *, tenant_id: UUID, channel_id: UUID) -> bytes:
        keyset = await self._keyring.keyset(tenant_id)
        text = json.dumps({"address": address.text, "secret": address.secret})
        return keyset.seal(text.encode(), _place(channel_id))

    async def open(self, sealed: bytes, *, tenant_id: UUID, channel_id: UUID) -> Address:
        """Open an address; raises Gone `key_destroyed`, Fault for what was sealed for another channel."""
        keyset = await self._keyring.keyset(tenant_id)
        held = json.loads(keyset.open(sealed, _place(channel_id)))
        return Address(held["address"], held["secret"])


def _place(channel_id: UUID) -> bytes:
    return b"notification_channel/" + channel_id.bytes


def new_address(kind: ChannelKind, text: str) -> Address:
    """Make an address; a webhook's gets a new secret of 256 bits to sign with."""
    return Address(text, f"whs_{secrets.token_urlsafe(32)}" if kind is ChannelKind.WEBHOOK else None)


def require_address(kind: ChannelKind, text: str, *, allow_private: bool) -> None:
    """Raise Invalid for what is no address of this kind, or names a private one in itself."""
    if kind is ChannelKind.EMAIL:
        if len(text) > _MAX_EMAIL or not _EMAIL.fullmatch(text):
            raise address_invalid("must be one e-mail address, in ASCII, without a name")
        return
    parts = _split(text)
    if kind is ChannelKind.WEBHOOK:
        if parts.scheme not in ("http", "https"):
            raise address_invalid("must begin with https:// or http://")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise address_invalid("holds a password or a fragment: deliveries are signed instead")
    else:
        _require_service(parts)
    if parts.scheme not in VENDOR_SCHEMAS:
        _require_host(parts, allow_private=allow_private)


def hint_of(kind: ChannelKind, text: str) -> str:
    """Show where an address leads, and of what may be a secret four characters at most."""
    if kind is ChannelKind.EMAIL:
        return f"…@{text.rpartition('@')[2]}"
    parts = urlsplit(text)
    host = "" if parts.scheme in VENDOR_SCHEMAS else parts.netloc.rpartition("@")[2]
    rest = text.partition("://")[2].removeprefix(parts.netloc) if host else text.partition("://")[2]
    tail = f"/…{rest[-_TAIL:]}" if len(rest) >= _LONG else "/…" if rest.strip("/") else ""
    return f"{parts.scheme}://{host}{tail}"


def _split(text: str) -> SplitResult:
    if len(text) > MAX_ADDRESS or not _PLAIN.fullmatch(text):
        raise address_invalid(f"must be printable ASCII without spaces, at most {MAX_ADDRESS} characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise address_invalid("is no URL") from None
    if "://" not in text or not parts.netloc or port == 0:
        raise address_invalid("is no URL")
    return parts


def _require_service(parts: SplitResult) -> None:
    if parts.scheme not in VENDOR_SCHEMAS | HOST_SCHEMAS:
        known = ", ".join(sorted(VENDOR_SCHEMAS | HOST_SCHEMAS))
        raise address_invalid(f"must begin with one of {known}, each with ://")
    strange = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - _PARAMETERS
    if strange:
        raise address_invalid(f"of parameters it may have {', '.join(sorted(_PARAMETERS))} only")


def _require_host(parts: SplitResult, *, allow_private: bool) -> None:
    """Refuse a host that is itself the spelling of a private address; numbers mean what the system's parser makes."""
    host = parts.hostname
    if not host:
        raise address_invalid("names no host")
    if allow_private:
        return
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return  # a name
    if not all(is_public(ipaddress.ip_address(entry[4][0])) for entry in found):
        raise address_private()
