"""Answers about who may come in, and what each may do."""

from typing import Any, TypedDict


class ServiceAccount(TypedDict, total=False):
    id: str
    name: str
    status: str


class Key(TypedDict, total=False):
    """`secret` only in the answer to its creation; `grace_until` of a key that was replaced."""

    id: str
    name: str
    status: str
    roles: list[str]
    permissions: list[str]
    expires_at: str | None
    rotated_from: str | None
    grace_until: str | None
    secret: str


class RegisteredCertificate(TypedDict, total=False):
    """`fingerprint`: SHA-256 of the certificate (DER), hexadecimal."""

    id: str
    service_account: str
    fingerprint: str
    subject: str
    not_after: str
    status: str


class RegisteredSigningKey(TypedDict, total=False):
    id: str
    keyid: str
    service_account: str
    public_key: str
    expires_at: str
    status: str


class Role(TypedDict, total=False):
    slug: str
    built_in: bool
    description: str
    permissions: list[str]
    workspace: str | None
    version: int | None


class Group(TypedDict, total=False):
    id: str
    name: str
    description: str
    workspace: str | None
    version: int


class GroupMember(TypedDict, total=False):
    principal: dict[str, str]
    added_at: str
    added_by: str


class EffectivePermissions(TypedDict, total=False):
    principal: str
    permissions: list[dict[str, str | None]]
    conditional: list[dict[str, str | None]]


class Binding(TypedDict, total=False):
    id: str
    principal: dict[str, str]
    role: str
    effect: str
    condition: dict[str, Any]


class Grant(TypedDict, total=False):
    """`approval` is what it waits for, null where an administrator gave it at once; `expires_at` counts from then."""

    id: str
    status: str
    principal: dict[str, str]
    role: str
    provider: str | None
    reason: str
    minutes: int
    granted_minutes: int | None
    approval: str | None
    extension: dict[str, Any] | None
    active_at: str | None
    expires_at: str | None
    ended_at: str | None
    end_reason: str | None


class RevokedGrants(TypedDict):
    items: list[Grant]


class Approval(TypedDict, total=False):
    """`digest` is the SHA-256 of the canonical JSON of exactly what will be done."""

    id: str
    status: str
    kind: str
    subject: str
    digest: str
    summary: str
    requested_by: str
    needed: int
    approved: int
    decisions: list[dict[str, Any]]
    expires_at: str


class Member(TypedDict, total=False):
    id: str
    email: str
    name: str
    status: str
    issuer: str
    version: int


class IdentityProvider(TypedDict, total=False):
    id: str
    slug: str
    name: str
    issuer: str
    client_id: str
    has_secret: bool
    scopes: list[str]
    rules: list[dict[str, Any]]
    redirects: list[str]
    accepts_invitations: bool
    status: str
    version: int


class Invitation(TypedDict, total=False):
    id: str
    workspace: str | None
    email: str
    role: str
    status: str
    expires_at: str
    accepted_by: str | None


class MemberLogin(TypedDict, total=False):
    id: str
    kind: str
    provider: str
    last_seen_at: str
    expires_at: str
