"""What a service account proves itself by, besides keys: client certificates, and keys that sign requests."""

from typing import TypeVar

from tenantry.client.access_types import RegisteredCertificate, RegisteredSigningKey
from tenantry.client.calls import Call, delete, get, given, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan

T = TypeVar("T")


class Certificates(Resource[T]):
    @Operation
    def register(self, *, service_account: str, certificate_pem: str, workspace: str) -> Call[RegisteredCertificate]:
        """Take the certificate alone, PEM; its key stays where it is."""
        body = {"certificate_pem": certificate_pem}
        return post("workspaces", workspace, "service-accounts", service_account, "certificates", json=body)

    @Listing
    def list(
        self, *, service_account: str, workspace: str, limit: int | None = None, cursor: str | None = None
    ) -> Plan[RegisteredCertificate]:
        call = get("workspaces", workspace, "service-accounts", service_account, "certificates")
        return Plan(call=call, limit=limit, cursor=cursor)

    @Operation
    def revoke(self, certificate: str, *, service_account: str, workspace: str) -> Call[RegisteredCertificate]:
        """At once and for good."""
        return delete("workspaces", workspace, "service-accounts", service_account, "certificates", certificate)


class SigningKeys(Resource[T]):
    @Operation
    def register(
        self, *, service_account: str, public_key: str, workspace: str, expires_at: str | None = None
    ) -> Call[RegisteredSigningKey]:
        """`public_key` are the 32 bytes of an Ed25519 key in base64; answer with `keyid`, which signatures name."""
        body = given(public_key=public_key, expires_at=expires_at)
        return post("workspaces", workspace, "service-accounts", service_account, "signing-keys", json=body)

    @Listing
    def list(
        self, *, service_account: str, workspace: str, limit: int | None = None, cursor: str | None = None
    ) -> Plan[RegisteredSigningKey]:
        call = get("workspaces", workspace, "service-accounts", service_account, "signing-keys")
        return Plan(call=call, limit=limit, cursor=cursor)

    @Operation
    def revoke(self, signing_key: str, *, service_account: str, workspace: str) -> Call[RegisteredSigningKey]:
        """At once and for good."""
        return delete("workspaces", workspace, "service-accounts", service_account, "signing-keys", signing_key)
