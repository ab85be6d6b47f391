"""Signed requests: what must be signed, what was, and that each passes once with the body that was signed."""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from tenantry.capabilities.access.service import Proof
from tenantry.capabilities.access.types import Caller
from tenantry.foundation.errors import Invalid, Unauthenticated
from tenantry.interfaces.api.bodies import StrictRequest, read_body
from tenantry.interfaces.api.freshness import require_fresh
from tenantry.interfaces.api.proxies import Networks, scheme_of
from tenantry.interfaces.api.routing import RouteSpec
from tenantry.interfaces.api.runtime import Runtime
from tenantry.kit.http_signatures import (
    MessageSignature,
    NotASignatureError,
    digest_matches,
    read_signature,
    signature_base,
)

MEANINGFUL: Final = ("x-workspace-id", "x-tenant-id", "idempotency-key", "if-match", "content-digest")
"""Headers that say what a request does: one that is sent must be signed."""
_WHOLE_TARGET: Final = frozenset({"@target-uri"})
_TARGET_IN_PARTS: Final = frozenset({"@authority", "@path", "@query"})
_LONGEST_NONCE: Final = 64
_PORTS: Final = {"http": ":80", "https": ":443"}


def read_signed(request: Request) -> MessageSignature | None:
    """Read the signature of a request, None when it has none; raises Unauthenticated `signature_malformed`."""
    told, signed = request.headers.getlist("signature-input"), request.headers.getlist("signature")
    if not told and not signed:
        return None
    if len(told) != 1 or len(signed) != 1:
        raise _malformed("Signature-Input and Signature: must stand once each")
    try:
        signature = read_signature(told[0], signed[0])
    except NotASignatureError as error:
        raise _malformed(str(error)) from None
    if len(signature.nonce) > _LONGEST_NONCE:
        raise _malformed(f"nonce: at most {_LONGEST_NONCE} characters")
    return signature


def proof_of(request: Request, signature: MessageSignature, *, proxies: Networks) -> Proof:
    """Bring together what must have been signed; raises Unauthenticated `signature_incomplete` for less than that."""
    covered = set(signature.covered)
    missing = [name for name in MEANINGFUL if name in request.headers and name not in covered]
    if "@method" not in covered:
        missing.append("@method")
    if not (covered >= _WHOLE_TARGET or covered >= _TARGET_IN_PARTS):
        missing.append("@target-uri")
    if missing:
        raise _incomplete(missing)
    return Proof(signature_base(signature, _values_of(request, proxies)), signature.signature)


async def require_whole_and_fresh(request: StrictRequest, *, spec: RouteSpec, caller: Caller, runtime: Runtime) -> None:
    """Let a request whose signature was verified pass once, with the body that was signed.

    Raises Unauthenticated `signature_incomplete`, `digest_mismatch`, `signature_expired`, `timestamp_out_of_window`;
    Conflict `replayed`; Invalid `signed_upload_unsupported` where the body is a stream of any length.
    """
    signature = read_signed(request)
    if signature is None:
        raise _malformed("the signature is gone")
    if spec.raw_body:
        raise Invalid(
            "signed_upload_unsupported",
            "an upload is checked only when all of it has come: send it with an API key or a client certificate",
            layer="guard",
        )
    body = await read_body(request, limit=runtime.settings.server.max_body_bytes, document=spec.document)
    digests = request.headers.getlist("content-digest")
    if body and not digests:
        raise _incomplete(["content-digest"])
    if digests and not digest_matches(", ".join(digests), body):
        raise Unauthenticated("digest_mismatch", "Content-Digest: is not that of the body", layer="guard")
    now = runtime.clock.now().timestamp()
    if signature.expires is not None and signature.expires <= now:
        raise Unauthenticated("signature_expired", "the signature has expired: sign again", layer="guard")
    # A nonce is its key's own: nobody else of the tenant uses it up.
    nonce = f"{caller.credential_id}.{signature.nonce}"
    await require_fresh(runtime, caller, nonce=nonce, timestamp_ms=signature.created * 1000)


def _values_of(request: Request, proxies: Networks) -> Callable[[str], str]:
    def value_of(name: str) -> str:
        if name.startswith("@"):
            return _derived(request, name, proxies)
        values = request.headers.getlist(name)
        if not values:
            raise _malformed(f"{name}: is signed, and was not sent")
        return ", ".join(value.strip() for value in values)

    return value_of


def _derived(request: Request, name: str, proxies: Networks) -> str:
    scope = request.scope
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    match name:
        case "@method":
            return str(scope["method"])
        case "@path":
            return path or "/"
        case "@query":
            return f"?{query}"
        case "@authority":
            return _authority(request, proxies)
        case "@scheme":
            return scheme_of(request, proxies)
        case "@target-uri":
            target = f"{path}?{query}" if query else path
            return f"{scheme_of(request, proxies)}://{_authority(request, proxies)}{target}"
        case _:
            raise _malformed("Signature-Input: signs a component that is not of the profile")


def _authority(request: Request, proxies: Networks) -> str:
    hosts = request.headers.getlist("host")
    if len(hosts) != 1:
        raise Invalid("header_ambiguous", "Host: must stand once, with one value", layer="guard")
    return hosts[0].lower().removesuffix(_PORTS.get(scheme_of(request, proxies), ""))


def _malformed(why: str) -> Unauthenticated:
    return Unauthenticated("signature_malformed", why, layer="guard")


def _incomplete(missing: list[str]) -> Unauthenticated:
    return Unauthenticated(
        "signature_incomplete", f"the signature leaves out {', '.join(missing)}", layer="guard", missing=missing
    )
