"""What a gateway is told, and what it tells."""

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Protocol

_LONGEST: Final = 1200


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a host may be reached at a port; `rule` decided, `remedy` says what would allow it.

    `private`: networks that are not public and that it may lie in all the same. Addresses of machines' metadata, and
    link-local ones, must be asked for by themselves even then.
    """

    allowed: bool
    rule: str = ""
    reason: str = ""
    remedy: str = ""
    private: Sequence[IPv4Network | IPv6Network] = ()


Decide = Callable[[str, int], Decision]
"""Canonical name or address, and port; asked often, so it must be quick. What it raises denies."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a canonical name, as text. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Bounds of one gateway. `bytes_out` and `bytes_in` count what is carried in all; beyond them nothing passes.

    `new_names_per_minute` counts names asked of DNS, allowed or not. `head_bytes` bounds the head of an HTTP request
    and a ClientHello each. A connection that carries nothing for `idle_seconds` ends.
    """

    connections: int = 128
    bytes_out: int = 1 << 30
    bytes_in: int = 8 << 30
    new_names_per_minute: int = 120
    idle_seconds: float = 300.0
    head_bytes: int = 32 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One decision: a denial when it is made, a connection or request that was let pass when it ends, with its bytes.

    `kind`: `dns`, `tls`, `http`, `https` (a request in TLS that ends at the gateway), `tcp` or `proxy`, by how it was
    asked; `direct`, to an address no name was given;
    `narrowed`, by a later decision; `failed`, allowed but not to be reached; `cap`; `quiet`, from where on denials are
    only counted for a while. `host` is canonical, or what was said in its place, shortened. `port` is 0 where a name
    was asked for at none. `injected` names what was put into the request, never a value.
    """

    kind: str
    host: str
    port: int
    allowed: bool
    rule: str = ""
    reason: str = ""
    remedy: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    injected: tuple[str, ...] = ()

    def line(self) -> str:
        """Say it in one line for a log that people and programs inside the sandbox read."""
        place = f"{self.host}:{self.port}" if self.port else self.host
        if self.kind == "failed":
            return plain(f"network: {place} cannot be reached: {self.reason}")
        if self.allowed:
            text = f"network: {self.kind} {place} allowed"
            if self.kind != "dns":
                text += f", {self.bytes_sent} bytes sent, {self.bytes_received} received"
            text += f", with {', '.join(self.injected)}" if self.injected else ""
            return plain(text)
        text = f"network: {self.kind} {place} denied: {self.reason or 'not allowed'}"
        text += f" (rule {self.rule})" if self.rule else ""
        return plain(f"{text} {self.remedy}".rstrip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """So far, live connections included; bytes as carried to and from the outside."""

    bytes_sent: int = 0
    bytes_received: int = 0
    connections: int = 0
    denials: int = 0


class Listeners(Protocol):
    """Non-blocking sockets in the sandbox's network namespace, the gateway's to close.

    `dns` (datagrams), `dns_tcp` and `proxy` answer at 127.0.0.1; those of `tcp`, by port, at every address of 127/8.
    """

    @property
    def dns(self) -> socket.socket: ...
    @property
    def dns_tcp(self) -> socket.socket: ...
    @property
    def proxy(self) -> socket.socket: ...
    @property
    def tcp(self) -> Mapping[int, socket.socket]: ...


class Barred(Exception):
    """A connection that may not go on; `decision` says why. It never leaves the engine."""

    def __init__(self, kind: str, decision: Decision, *, host: str = "", status: int = 403) -> None:
        super().__init__(decision.reason)
        self.kind = kind
        self.decision = decision
        self.host = host
        self.status = status


def refusal(rule: str, reason: str, remedy: str = "") -> Decision:
    return Decision(allowed=False, rule=rule, reason=reason, remedy=remedy)


def failure(rule: str, reason: str) -> Barred:
    """Make what ends a connection that was allowed and did not come about."""
    return Barred("failed", Decision(allowed=True, rule=rule, reason=reason), status=502)


def shown(text: str | bytes) -> str:
    """Text of a sandbox as it may be shown: printable, on one line, short."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return plain(text[:100])


def plain(text: str) -> str:
    """Make it printable, on one line, and not too long."""
    kept = "".join(one if one.isprintable() else "?" for one in text)
    return kept if len(kept) <= _LONGEST else kept[:_LONGEST] + "…"
