"""Values that go into requests in the place of what a sandbox was given for them.

Only fields of a head are looked at, each a whole line by the strict reader, and only values that can lie in one are
put there: so nothing of a value can end a line, and nothing of a sandbox's can be taken for more than a placeholder.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tenantry.engines.egress.certificates import Authority
from tenantry.engines.egress.requests import Request
from tenantry.engines.egress.types import Barred, refusal
from tenantry.kit.hosts import Host
from tenantry.kit.masking.known import pieces_of

PORT: Final = 443
MOST_VALUE_BYTES: Final = 4096
_PER_SECOND: Final = 100.0
_BURST: Final = 50.0
_MOST_HEAD_BYTES: Final = 64 << 10
_VALUE: Final = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_PLACEHOLDER: Final = re.compile(r"[A-Za-z0-9-]{20,200}")
_BASIC: Final = re.compile(rb"(?i:(basic) +)([A-Za-z0-9+/]+={0,2})")
#: Of the message or the hop, so neither set nor changed.
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """Puts `value` into requests in TLS to `host`, for `placeholder`, or as the whole of `header`.

    `name` is what is told of it. Raises ValueError, which never has the value.
    """

    name: str
    host: Host
    placeholder: str = field(repr=False)
    value: str = field(repr=False)
    header: str | None = None

    def __post_init__(self) -> None:
        if not is_injectable(self.value):
            raise ValueError("the value cannot lie in a header")
        if self.header is not None and not is_injectable_header(self.header):
            raise ValueError("no header that may be set")
        if not _PLACEHOLDER.fullmatch(self.placeholder):
            raise ValueError("no placeholder")


class Injector:
    """What one gateway puts in: by rules, as an authority that its sandbox trusts, to servers that `trust` knows.

    A rule is for a host of the authority's.
    """

    def __init__(self, rules: Iterable[Injection], *, authority: Authority, trust: ssl.SSLContext) -> None:
        self._rules = tuple(rules)
        self.authority = authority
        self.trust = trust
        self.pieces = pieces_of(sorted((rule.value for rule in self._rules), key=len))
        self._turn_at = 0.0

    def rules_for(self, host: Host, port: int = PORT) -> tuple[Injection, ...]:
        """Give those of exactly this host; at other ports than 443 there are none."""
        return tuple(rule for rule in self._rules if rule.host == host) if port == PORT else ()

    def wait_seconds(self, now: float) -> float:
        """Tell how long the next handshake is to wait: signing is work, and a sandbox asks for it for nothing."""
        self._turn_at = max(self._turn_at, now - _BURST / _PER_SECOND) + 1 / _PER_SECOND
        return max(0.0, self._turn_at - now)


def is_injectable(value: str) -> bool:
    """Say whether a value can lie in a header: no control characters, no space at its ends, at most 4 096 bytes."""
    raw = value.encode(errors="surrogatepass")
    return len(raw) <= MOST_VALUE_BYTES and _VALUE.fullmatch(raw) is not None


def is_injectable_header(name: str) -> bool:
    """Say whether a header may be set: a plain name, and none that tells where the message goes or ends."""
    return _HEADER.fullmatch(name) is not None and name.lower() not in _OURS


def inject(request: Request, rules: Sequence[Injection]) -> tuple[Request, tuple[str, ...]]:
    """Put in what the rules say; tells whose values. Raises Barred where a placeholder is in the target."""
    refuse_in_target(request, rules)
    fields = request.fields
    used = []
    for rule in rules:
        changed = _set(fields, rule) if rule.header is not None else _fill(fields, rule)
        if changed != fields:
            fields = changed
            used.append(rule.name)
    if sum(len(name) + len(value) for name, value in fields) > _MOST_HEAD_BYTES:
        reason = f"its head would be longer than {_MOST_HEAD_BYTES} bytes with what is injected"
        raise Barred("", refusal("inject_size", reason, "Send the placeholder less often."), status=431)
    return replace(request, fields=fields), tuple(used)


def refuse_in_target(request: Request, rules: Sequence[Injection]) -> None:
    """Refuse a request that has a placeholder in its address, which logs of everybody between keep."""
    for rule in rules:
        if rule.placeholder in request.target:
            reason = f"the placeholder of {rule.name} is in the address of a request"
            remedy = "Send it in a header: addresses and bodies pass as they are."
            raise Barred("", refusal("inject_target", reason, remedy))


def refuse_in_clear(request: Request, rules: Sequence[Injection]) -> None:
    """Refuse a request outside TLS that shows a placeholder: nothing would be put in, and it could not work."""
    for rule in rules:
        if rule.placeholder in request.target or _fill(request.fields, rule) != request.fields:
            reason = f"{rule.name} is put into requests in TLS alone, and this one is in clear"
            raise Barred("", refusal("inject_clear", reason, f"Use https://{rule.host}/."))


Fields = tuple[tuple[bytes, bytes], ...]


def _set(fields: Fields, rule: Injection) -> Fields:
    """Set the rule's header, and drop what is, or looks like, the same one."""
    header = (rule.header or "").encode()
    alike = header.lower()
    kept = tuple((name, value) for name, value in fields if name.lower().replace(b"_", b"-") != alike)
    return (*kept, (header, rule.value.encode()))


def _fill(fields: Fields, rule: Injection) -> Fields:
    return tuple(
        (name, value if name.lower().decode("latin-1") in _OURS else _filled(name, value, rule))
        for name, value in fields
    )


def _filled(name: bytes, value: bytes, rule: Injection) -> bytes:
    placeholder, real = rule.placeholder.encode(), rule.value.encode()
    basic = _BASIC.fullmatch(value) if name.lower() == b"authorization" else None
    if basic is None:
        return value.replace(placeholder, real)
    try:
        pair = base64.b64decode(basic[2], validate=True)
    except (binascii.Error, ValueError):
        return value
    return value if placeholder not in pair else basic[1] + b" " + base64.b64encode(pair.replace(placeholder, real))
