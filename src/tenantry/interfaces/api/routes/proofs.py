"""What a service account proves itself by, besides keys: client certificates, and keys that sign requests."""

import base64
from typing import Annotated

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.identity.types import ClientCertificate, SigningKey
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Instant, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

_CERTIFICATES = "/workspaces/{ws}/service-accounts/{account}/certificates"
_SIGNING_KEYS = "/workspaces/{ws}/service-accounts/{account}/signing-keys"


class CertificateBody(Body):
    certificate_pem: Annotated[str, Field(min_length=1, max_length=16_384)]


class CertificateAnswer(Answer):
    id: str
    service_account: str
    fingerprint: str = Field(description="SHA-256 of the certificate (DER), hexadecimal")
    subject: str
    not_before: Moment
    not_after: Moment
    status: str
    created_at: Moment
    created_by: str
    last_used_at: Moment | None
    revoked_at: Moment | None


class SigningKeyBody(Body):
    public_key: Annotated[str, Field(max_length=64, description="Ed25519, 32 bytes in base64")]
    expires_at: Instant | None = Field(default=None, description="none: after identity.key_days")


class SigningKeyAnswer(Answer):
    id: str
    keyid: str = Field(description="by what a signature names the key")
    service_account: str
    public_key: str
    status: str
    created_at: Moment
    created_by: str
    expires_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None


async def _certificate_again(unit: Unit, resource_id: str) -> CertificateAnswer:
    account = parse_id(Prefix.SERVICE_ACCOUNT, unit.request.path_params["account"])
    certificate_id = parse_id(Prefix.CERTIFICATE, resource_id)
    return render(await unit.identity.certificates.get(account, certificate_id, workspace_id=unit.workspace_id))


async def _signing_key_again(unit: Unit, resource_id: str) -> SigningKeyAnswer:
    account = parse_id(Prefix.SERVICE_ACCOUNT, unit.request.path_params["account"])
    found = await unit.identity.signing_keys.get(
        account, parse_id(Prefix.SIGNING_KEY, resource_id), workspace_id=unit.workspace_id
    )
    return render_signing_key(found, region=unit.scope.region)


@routes.post(_CERTIFICATES, needs=Permission.KEY_ADMIN, replay=_certificate_again, status=201)
async def register_certificate(request: Request, ws: str, account: str, body: CertificateBody) -> CertificateAnswer:
    """Let whoever shows this certificate at the TLS handshake be the service account."""
    unit = unit_of(request)
    certificate = await unit.identity.certificates.register(
        parse_id(Prefix.SERVICE_ACCOUNT, account),
        workspace_id=unit.workspace_id,
        pem=body.certificate_pem,
        scopes=await unit.grantor(),
    )
    unit.resource_id = format_id(Prefix.CERTIFICATE, certificate.certificate_id)
    return render(certificate)


@routes.get(_CERTIFICATES, needs=Permission.KEY_READ)
async def list_certificates(
    request: Request, ws: str, account: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[CertificateAnswer]:
    """The certificates of the service account, also those that were revoked."""
    unit = unit_of(request)
    found = await unit.identity.certificates.list_of(
        parse_id(Prefix.SERVICE_ACCOUNT, account),
        workspace_id=unit.workspace_id,
        after=after(unit, cursor),
        limit=limit + 1,
    )
    items = [render(certificate) for certificate in found]
    return Page[CertificateAnswer](**page(unit, items, ids=[c.certificate_id for c in found], limit=limit))


@routes.delete(f"{_CERTIFICATES}/{{certificate}}", needs=Permission.KEY_ADMIN, closed_too=True)
async def revoke_certificate(request: Request, ws: str, account: str, certificate: str) -> CertificateAnswer:
    """Revoke for good, everywhere within a second."""
    unit = unit_of(request)
    return render(
        await unit.identity.certificates.revoke(
            parse_id(Prefix.SERVICE_ACCOUNT, account),
            parse_id(Prefix.CERTIFICATE, certificate),
            workspace_id=unit.workspace_id,
        )
    )


@routes.post(_SIGNING_KEYS, needs=Permission.KEY_ADMIN, replay=_signing_key_again, status=201)
async def register_signing_key(request: Request, ws: str, account: str, body: SigningKeyBody) -> SigningKeyAnswer:
    """Let whoever signs requests with this key be the service account."""
    unit = unit_of(request)
    key = await unit.identity.signing_keys.register(
        parse_id(Prefix.SERVICE_ACCOUNT, account),
        workspace_id=unit.workspace_id,
        public_key=body.public_key,
        expires_at=body.expires_at,
        scopes=await unit.grantor(),
    )
    unit.resource_id = format_id(Prefix.SIGNING_KEY, key.signing_key_id)
    return render_signing_key(key, region=unit.scope.region)


@routes.get(_SIGNING_KEYS, needs=Permission.KEY_READ)
async def list_signing_keys(
    request: Request, ws: str, account: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[SigningKeyAnswer]:
    """The signing keys of the service account, also those that were revoked."""
    unit = unit_of(request)
    found = await unit.identity.signing_keys.list_of(
        parse_id(Prefix.SERVICE_ACCOUNT, account),
        workspace_id=unit.workspace_id,
        after=after(unit, cursor),
        limit=limit + 1,
    )
    items = [render_signing_key(key, region=unit.scope.region) for key in found]
    return Page[SigningKeyAnswer](**page(unit, items, ids=[k.signing_key_id for k in found], limit=limit))


@routes.delete(f"{_SIGNING_KEYS}/{{signing_key}}", needs=Permission.KEY_ADMIN, closed_too=True)
async def revoke_signing_key(request: Request, ws: str, account: str, signing_key: str) -> SigningKeyAnswer:
    """Revoke for good, everywhere within a second."""
    unit = unit_of(request)
    revoked = await unit.identity.signing_keys.revoke(
        parse_id(Prefix.SERVICE_ACCOUNT, account),
        parse_id(Prefix.SIGNING_KEY, signing_key),
        workspace_id=unit.workspace_id,
    )
    return render_signing_key(revoked, region=unit.scope.region)


def render(certificate: ClientCertificate) -> CertificateAnswer:
    return CertificateAnswer(
        id=format_id(Prefix.CERTIFICATE, certificate.certificate_id),
        service_account=format_id(Prefix.SERVICE_ACCOUNT, certificate.service_account_id),
        fingerprint=certificate.fingerprint.hex(),
        subject=certificate.subject,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        status=certificate.status,
        created_at=certificate.created_at,
        created_by=certificate.created_by,
        last_used_at=certificate.last_used_at,
        revoked_at=certificate.revoked_at,
    )


def render_signing_key(key: SigningKey, *, region: str) -> SigningKeyAnswer:
    return SigningKeyAnswer(
        id=format_id(Prefix.SIGNING_KEY, key.signing_key_id),
        keyid=key.keyid(region),
        service_account=format_id(Prefix.SERVICE_ACCOUNT, key.service_account_id),
        public_key=base64.b64encode(key.public_key).decode(),
        status=key.status,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
