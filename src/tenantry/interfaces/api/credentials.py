"""What a request shows of who it is: a key or token, a login's cookie, a client certificate, a signature."""

import hashlib
from typing import Final
from uuid import UUID

from starlette.requests import Request

from tenantry.capabilities.access.service import CERTIFICATE, SIGNATURE, Presented
from tenantry.capabilities.access.types import Caller
from tenantry.capabilities.sandboxes.service import PORT_TOKEN
from tenantry.foundation.errors import Invalid, Unauthenticated
from tenantry.interfaces.api import cookies
from tenantry.interfaces.api.bodies import StrictRequest
from tenantry.interfaces.api.context import named_workspace
from tenantry.interfaces.api.port_access import shown_token
from tenantry.interfaces.api.protocol import CLIENT_CERTIFICATE, TLS
from tenantry.interfaces.api.proxies import forwarded_certificate
from tenantry.interfaces.api.routing import RouteSpec
from tenantry.interfaces.api.runtime import Runtime
from tenantry.interfaces.api.signed_requests import proof_of, read_signed, require_whole_and_fresh

_CREDENTIAL_NAMES: Final = frozenset({"key", "api_key", "access_token", "token"})


async def admit(request: StrictRequest, *, spec: RouteSpec, runtime: Runtime, ip: str | None) -> Caller:
    """Authenticate a request; one that is signed passes once, with the body that was signed."""
    shown = presented(request, runtime)
    caller = await runtime.admission.authenticate(shown, ip=ip)
    if shown.kind == SIGNATURE:
        await require_whole_and_fresh(request, spec=spec, caller=caller, runtime=runtime)
    return caller


def presented(request: Request, runtime: Runtime) -> Presented:
    """Take the one credential; raises Unauthenticated without one, Invalid where two could disagree.

    A cookie counts for changes only together with what a page of ours shows (Denied `csrf_refused`).
    """
    if (token := shown_token(request)) is not None:  # alone it lets in: what a browser sends beside is for the console
        return Presented(token, kind=PORT_TOKEN)
    if request.scope["query_string"] and not _CREDENTIAL_NAMES.isdisjoint(request.query_params):
        raise Invalid("credential_in_query", "a credential in an address ends up in logs: send a header", layer="guard")
    fingerprint = _fingerprint(request, runtime)
    bearer, signed = request.headers.getlist("authorization"), read_signed(request)
    cookie = cookies.read_cookie(request, cookies.LOGIN, runtime.settings)
    if cookie is not None:
        if bearer or signed is not None:
            raise Invalid("credentials_disagree", "a login's cookie and another credential: send one", layer="guard")
        cookies.require_same_site(request, cookie, hasher=runtime.hasher, settings=runtime.settings)
        return Presented(cookie, kind="cookie", beside=fingerprint)
    if signed is not None:
        if bearer:
            raise Invalid("header_ambiguous", "Authorization: a signed request shows no key beside", layer="guard")
        proof = proof_of(request, signed, proxies=runtime.settings.server.trusted_proxies)
        return Presented(signed.keyid, kind=SIGNATURE, proof=proof, beside=fingerprint)
    if bearer or fingerprint is None:
        return Presented(_bearer(bearer), beside=fingerprint)
    cookies.require_no_foreign_page(request, runtime.settings)
    return Presented(fingerprint.hex(), kind=CERTIFICATE, place=_place(request))


def _bearer(values: list[str]) -> str:
    if len(values) > 1:
        raise Invalid("header_ambiguous", "Authorization: must stand once", layer="guard")
    scheme, _, text = (values[0] if values else "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthenticated(
            "credential_missing", "send Authorization: Bearer and an API key", layer="guard", allow_with=("an API key",)
        )
    return text.strip()


def _fingerprint(request: Request, runtime: Runtime) -> bytes | None:
    """Tell the SHA-256 of the client's certificate: what a proxy of ours says, else what the TLS layer has verified.

    The certificate of a connection from a proxy is the proxy's own, so what it forwards goes before.
    """
    certificate = forwarded_certificate(request, runtime.settings.server.trusted_proxies)
    if certificate is None:
        certificate = request.scope.get("extensions", {}).get(TLS, {}).get(CLIENT_CERTIFICATE)
    return hashlib.sha256(certificate).digest() if certificate is not None else None


def _place(request: Request) -> UUID:
    """Tell the workspace in which a certificate is looked up: it says nothing of one itself."""
    workspace_id = named_workspace(request)
    if workspace_id is None:
        raise Unauthenticated(
            "workspace_required",
            "a client certificate names no place: name the workspace in the path or by X-Workspace-Id",
            layer="guard",
        )
    return workspace_id
