"""Signs requests: HTTP Message Signatures (RFC 9421) by Ed25519, each with a nonce of its own.

A retry is another request, so it is signed anew. Uploads are not signed: the server would have to keep all of one
before it could tell whether it is whole.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Generator
from typing import Final

import httpx

from tenantry.client.errors import BadRequest
from tenantry.client.proofs import SigningKey

_MEANINGFUL: Final = ("content-digest", "x-workspace-id", "x-tenant-id", "idempotency-key", "if-match")
_NONCE_BYTES: Final = 18
_SECONDS: Final = 60
_UPLOAD: Final = "application/x-tar"


class Signature(httpx.Auth):
    """Signs whatever a client sends."""

    def __init__(self, key: SigningKey) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._keyid = key.keyid
        self._key = Ed25519PrivateKey.from_private_bytes(key.private_key)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if request.headers.get("Content-Type") == _UPLOAD:
            raise BadRequest("upload_unsigned", "an upload cannot be signed: use an API key or a client certificate")
        if request.content:
            digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
            request.headers["Content-Digest"] = f"sha-256=:{digest}:"
        names = ["@method", "@authority", "@path", "@query"]
        names += [name for name in _MEANINGFUL if name in request.headers]
        now = int(time.time())
        parameters = (
            f"({_quoted(names)});created={now};expires={now + _SECONDS}"
            f';nonce="{secrets.token_urlsafe(_NONCE_BYTES)}";keyid="{self._keyid}";alg="ed25519"'
        )
        lines = [f'"{name}": {_value_of(request, name)}' for name in names]
        base = "\n".join([*lines, f'"@signature-params": {parameters}'])
        signature = base64.b64encode(self._key.sign(base.encode())).decode()
        request.headers["Signature-Input"] = f"tenantry={parameters}"
        request.headers["Signature"] = f"tenantry=:{signature}:"
        yield request


def _quoted(names: list[str]) -> str:
    return " ".join(f'"{name}"' for name in names)


def _value_of(request: httpx.Request, name: str) -> str:
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    match name:
        case "@method":
            return request.method
        case "@authority":
            return request.headers["Host"].lower()
        case "@path":
            return path
        case "@query":
            return f"?{query}"
        case _:
            return request.headers[name]
