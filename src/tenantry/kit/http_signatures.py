"""HTTP Message Signatures (RFC 9421), one profile of them, and Content-Digest (RFC 9530). Pure: no keys, no clock.

One signature, by Ed25519; what it covers is a list of plain names in the canonical form of structured fields, so that
the text which was sent is the text that was signed. Whatever is written otherwise is no signature.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_LABEL: Final = r"[a-z*][a-z0-9_.*-]{0,63}"
_NAME: Final = r'"@?[a-z0-9!#$%&\'*+.^_`|~-]{1,64}"'
_PARAMETER: Final = r';([a-z]{1,16})=(\d{1,15}|"[\x20\x21\x23-\x5b\x5d-\x7e]{0,256}")'
_INPUT: Final = re.compile(rf"({_LABEL})=(\(({_NAME}(?: {_NAME})*)\)((?:{_PARAMETER})+))")
_SIGNATURE: Final = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/]{{86}}==):")
_DIGEST: Final = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]+={0,2}):")
_HASHES: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_KNOWN: Final = frozenset({"created", "expires", "nonce", "keyid", "alg"})
_MOST_COMPONENTS: Final = 32


class NotASignatureError(Exception):
    """What was sent is none of this profile; the text says why, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """`covered` names components in order; `parameters` is the text that is signed of it. Times are Unix seconds."""

    covered: tuple[str, ...]
    parameters: str
    signature: bytes
    keyid: str
    nonce: str
    created: int
    expires: int | None


def read_signature(signature_input: str, signature: str) -> MessageSignature:
    """Read both headers; raises NotASignatureError."""
    told, signed = _INPUT.fullmatch(signature_input), _SIGNATURE.fullmatch(signature)
    if told is None or signed is None:
        raise NotASignatureError("Signature-Input and Signature: one signature each, as in the profile")
    if told[1] != signed[1]:
        raise NotASignatureError("Signature: has another label than Signature-Input")
    covered = tuple(name.strip('"') for name in told[3].split(" "))
    if len(set(covered)) != len(covered) or len(covered) > _MOST_COMPONENTS:
        raise NotASignatureError("Signature-Input: a component stands twice, or there are too many")
    pairs = re.findall(_PARAMETER, told[4])
    values = dict(pairs)
    if len(values) != len(pairs) or not _KNOWN.issuperset(values):
        raise NotASignatureError("Signature-Input: parameters are created, expires, nonce, keyid and alg, each once")
    if values.get("alg") != '"ed25519"':
        raise NotASignatureError('Signature-Input: alg must be "ed25519"')
    return MessageSignature(
        covered=covered,
        parameters=told[2],
        signature=base64.b64decode(signed[2]),
        keyid=_text(values, "keyid"),
        nonce=_text(values, "nonce"),
        created=_number(values, "created"),
        expires=_number(values, "expires") if "expires" in values else None,
    )


def signature_base(signature: MessageSignature, value_of: Callable[[str], str]) -> bytes:
    """Write what was signed (RFC 9421 §2.5); `value_of` gives the value of a component."""
    lines = [f'"{name}": {value_of(name)}' for name in signature.covered]
    return "\n".join([*lines, f'"@signature-params": {signature.parameters}']).encode("latin-1")


def digest_matches(header: str, body: bytes) -> bool:
    """Say whether Content-Digest is that of the body, by each hash it names; False for one that names another."""
    named = [_DIGEST.fullmatch(part.strip()) for part in header.split(",")]
    return bool(named) and all(one is not None and _is_digest(one[1], one[2], body) for one in named)


def _is_digest(name: str, text: str, body: bytes) -> bool:
    try:
        return hmac.compare_digest(base64.b64decode(text, validate=True), _HASHES[name](body).digest())
    except binascii.Error:
        return False


def _text(values: dict[str, str], name: str) -> str:
    text = values.get(name, "")
    if len(text) <= len('""') or not text.startswith('"'):
        raise NotASignatureError(f"Signature-Input: {name} must be a text")
    return text.strip('"')


def _number(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not text.isdecimal():
        raise NotASignatureError(f"Signature-Input: {name} must be a time in seconds")
    return int(text)
