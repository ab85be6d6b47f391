"""Forms of keys that are recognised without being known; one list for jobs' output and for our own logs."""

import re
from dataclasses import dataclass
from typing import Final

_WORD: Final = rb"[A-Za-z0-9]"
_BASE64URL: Final = rb"[A-Za-z0-9_-]"
_WORDS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True, slots=True, eq=False)
class KeyFormat:
    """One form. It begins with one of `prefixes`, is certain once `shape` matches, then goes on.

    What goes on is a run of `tail`, or where `until` is given everything up to its match, at most `most` bytes.
    `partial` matches to the end of what has come as long as more could make it a key. A group of `shape` says from
    where it is masked.
    """

    name: str
    prefixes: tuple[bytes, ...]
    shape: "re.Pattern[bytes]"
    partial: "re.Pattern[bytes]"
    tail: "re.Pattern[bytes]"
    apart: frozenset[int] = frozenset()
    """Counts only where none of these bytes stands before it."""
    until: "re.Pattern[bytes] | None" = None
    most: int = 0


def _plain(
    name: str,
    *prefixes: bytes,
    body: bytes = _WORD,
    least: int,
    gap: bytes = b"",
    shows_prefix: bool = False,
    apart: frozenset[int] = frozenset(),
) -> KeyFormat:
    """Describe a prefix, bytes of `gap` between, and at least `least` of `body`."""
    first = b"(?:" + b"|".join(map(re.escape, prefixes)) + b")" + gap
    secret = b"(%b{%d})" % (body, least) if shows_prefix else b"%b{%d}" % (body, least)
    return KeyFormat(
        name=name,
        prefixes=prefixes,
        shape=re.compile(first + secret),
        partial=re.compile(rb"%b%b{0,%d}\Z" % (first, body, least - 1)),
        tail=re.compile(body + b"*"),
        apart=apart,
    )


FORMATS: Final = (
    KeyFormat(
        name="tenantry",
        prefixes=(b"tenantry_",),
        shape=re.compile(rb"tenantry_[a-z0-9-]{1,16}_[a-z0-9]{1,40}_[0-9A-Za-z]{20}"),
        partial=re.compile(rb"tenantry_[a-z0-9-]{0,16}(?:_[a-z0-9]{0,40}(?:_[0-9A-Za-z]{0,19})?)?\Z"),
        tail=re.compile(rb"[0-9A-Za-z_]*"),
    ),
    _plain("aws_key_id", b"AKIA", b"ASIA", body=rb"[A-Z0-9]", least=16, apart=_WORDS),
    _plain(
        "aws_secret_key",
        b"aws_secret_access_key",
        b"AWS_SECRET_ACCESS_KEY",
        b"SecretAccessKey",
        b"secretAccessKey",
        body=rb"[A-Za-z0-9/+=]",
        least=40,
        gap=rb"[\"':= \t>]{0,8}+",  # all of it: an `=` of it is none of the secret's
        shows_prefix=True,
    ),
    _plain("github", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", least=30),
    _plain("github_fine_grained", b"github_pat_", body=rb"[A-Za-z0-9_]", least=22),
    _plain("gitlab", b"glpat-", body=_BASE64URL, least=20),
    _plain("slack", *(b"xox%c-" % kind for kind in b"abeoprs"), b"xapp-", body=rb"[A-Za-z0-9-]", least=10),
    _plain("stripe", b"sk_live_", b"rk_live_", b"sk_test_", b"rk_test_", least=16),
    # OpenAI's, and Anthropic's `sk-ant-…`.
    _plain("sk", b"sk-", body=_BASE64URL, least=20, apart=_WORDS),
    _plain("google", b"AIza", body=_BASE64URL, least=35),
    KeyFormat(  # RFC 7519: header and payload are both JSON objects in base64url
        name="jwt",
        prefixes=(b"eyJ",),
        shape=re.compile(rb"eyJ[A-Za-z0-9_-]{5,500}\.eyJ"),
        partial=re.compile(rb"eyJ[A-Za-z0-9_-]{0,500}(?:\.(?:ey?)?)?\Z"),
        tail=re.compile(rb"[A-Za-z0-9_.-]*"),
        apart=_WORDS | frozenset(b"_-"),
    ),
    KeyFormat(  # RFC 7468
        name="pem",
        prefixes=(b"-----BEGIN ",),
        shape=re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        partial=re.compile(rb"-----BEGIN [A-Z0-9 ]{0,60}-{0,4}\Z"),
        tail=re.compile(b""),
        until=re.compile(rb"-----END [A-Z0-9 ]{0,60}-----"),
        most=32 << 10,
    ),
    _plain(  # RFC 6750
        "bearer",
        b"Bearer ",
        b"bearer ",
        b"BEARER ",
        body=rb"[A-Za-z0-9._~+/=-]",
        least=16,
        gap=b" {0,4}",
        shows_prefix=True,
    ),
    _plain(  # RFC 7617
        "basic",
        b"uthorization: Basic ",
        b"uthorization: basic ",
        body=rb"[A-Za-z0-9+/=]",
        least=8,
        shows_prefix=True,
    ),
)
UNTIL_BYTES: Final = 80
"""No match of `until` is longer."""
SHORTEST_BYTES: Final = 12
"""No key is shorter than this (a JWT cut off in its payload), so what is shorter needs no look."""
