"""What identity refuses."""

from datetime import datetime

from tenantry.foundation.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    NotFound,
    Precondition,
    Unauthenticated,
    Unavailable,
)


def credential_refused() -> Unauthenticated:
    """Say the same for unknown, wrong, revoked and expired: the difference is in the tenant's audit trail."""
    return Unauthenticated(
        "credential_refused", "the credential is unknown, revoked or expired: create a new key", layer="identity"
    )


def credential_malformed() -> Unauthenticated:
    return Unauthenticated(
        "credential_malformed",
        "not a Tenantry key: it is tenantry_<region>_<scope>_<secret>_<checksum>, as shown once at its creation",
        layer="identity",
    )


def service_account_not_found() -> NotFound:
    return NotFound("not_found", "no such service account", layer="identity")


def user_not_found() -> NotFound:
    return NotFound("not_found", "no such user", layer="identity")


def version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        f"If-Match: the present version is {current}: read it again",
        layer="identity",
        current=current,
    )


def key_not_found() -> NotFound:
    return NotFound("not_found", "no such key", layer="identity")


def name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"a service account named {name!r} exists here", layer="identity", field="name")


def user_exists() -> Conflict:
    return Conflict("user_exists", "this user exists here already", layer="identity", field="user_id")


def expiry_in_the_past() -> Invalid:
    return Invalid("expiry_past", "expires_at: must lie in the future", layer="identity", field="expires_at")


def delegated_for_another() -> Invalid:
    return Invalid(
        "delegated_for_another",
        "service_account: a key for an agent acts for whoever makes it, and makes nobody a service account",
        layer="identity",
        field="service_account",
    )


def network_too_wide(network: str) -> Invalid:
    return Invalid(
        "network_too_wide",
        f"allowed_networks: {network} is not inside of those of the key that makes this one",
        layer="identity",
        field="allowed_networks",
    )


def expiry_too_far(latest: datetime, days: int) -> Invalid:
    return Invalid(
        "expiry_too_far",
        f"expires_at: at most {days} days ahead, by {latest.isoformat(timespec='seconds')}: rotate keys, or have the "
        "operator raise identity.max_key_days",
        layer="identity",
        field="expires_at",
        limit_days=days,
    )


def key_not_active(status: str) -> Conflict:
    return Conflict(
        "key_not_active", f"only an active key is rotated, this one is {status}: create a new key", layer="identity"
    )


def rotation_beyond_delegation() -> Denied:
    return Denied(
        "rotation_beyond_delegation",
        "a key for an agent rotates itself and the keys it has made, no others",
        layer="identity",
    )


def certificate_not_found() -> NotFound:
    return NotFound("not_found", "no such certificate", layer="identity")


def certificate_unreadable(why: str) -> Invalid:
    return Invalid("certificate_unreadable", f"certificate_pem: {why}", layer="identity", field="certificate_pem")


def certificate_expired(at: datetime) -> Invalid:
    return Invalid(
        "certificate_expired",
        f"certificate_pem: has expired at {at.isoformat(timespec='seconds')}",
        layer="identity",
        field="certificate_pem",
    )


def certificate_registered() -> Conflict:
    return Conflict(
        "certificate_registered",
        "this workspace knows this certificate already; one that was revoked does not come back",
        layer="identity",
        field="certificate_pem",
    )


def signing_key_not_found() -> NotFound:
    return NotFound("not_found", "no such signing key", layer="identity")


def public_key_unusable(why: str) -> Invalid:
    return Invalid("public_key_unusable", f"public_key: {why}", layer="identity", field="public_key")


def public_key_registered() -> Conflict:
    return Conflict(
        "public_key_registered",
        "this workspace knows this key already; one that was revoked does not come back",
        layer="identity",
        field="public_key",
    )


def credentials_disagree() -> Invalid:
    return Invalid(
        "credentials_disagree",
        "the request shows two credentials of different principals: send one",
        layer="identity",
    )


def provider_not_found() -> NotFound:
    return NotFound("not_found", "no such identity provider", layer="identity")


def provider_taken(slug: str) -> Conflict:
    return Conflict("provider_taken", f"an identity provider {slug!r} exists here", layer="identity", field="slug")


def issuer_invalid(reason: str) -> Invalid:
    return Invalid("issuer_invalid", f"issuer: {reason}", layer="identity", field="issuer")


def redirect_refused() -> Invalid:
    return Invalid(
        "redirect_refused",
        "redirect: a path of this server, a loopback address by number, or one that the provider's redirects name",
        layer="identity",
        field="redirect",
    )


def challenge_required() -> Invalid:
    return Invalid(
        "challenge_required",
        "code_challenge: programs send one, with code_challenge_method=S256 (RFC 7636)",
        layer="identity",
        field="code_challenge",
    )


def login_unavailable() -> NotFound:
    """Say the same for an unknown tenant, one without providers, and an unknown or disabled provider."""
    return NotFound(
        "login_unavailable",
        "no such tenant, or no such provider there: its administrator can tell both names",
        layer="identity",
    )


def login_refused() -> Unauthenticated:
    """Say the same for whatever was wrong with a login: the difference is in the tenant's audit trail."""
    return Unauthenticated("login_refused", "this login is unknown, used or expired: begin anew", layer="identity")


def provider_declined(reason: str) -> Denied:
    return Denied("provider_declined", f"the identity provider declined: {reason}", layer="identity", reason=reason)


def no_membership() -> Denied:
    return Denied(
        "no_membership",
        "you are known there, but no rule and no invitation of this tenant gives you a role: ask its administrator",
        layer="identity",
        allow_with=("a claim rule", "an invitation to your verified address"),
    )


def issuer_unreachable(what: str) -> Unavailable:
    return Unavailable("issuer_unreachable", f"the identity provider {what}", layer="identity")


def issuer_unusable(what: str) -> Denied:
    """Refuse what a provider answered: it is not ours to repeat, and not to trust."""
    return Denied("issuer_unusable", f"the identity provider {what}", layer="identity")


def flows_exhausted(limit: int, retry_after: int) -> Exhausted:
    return Exhausted(
        "logins_under_way",
        "too many logins were begun and not finished: wait, then begin anew",
        layer="identity",
        limit=limit,
        retry_after=retry_after,
    )


def member_not_found() -> NotFound:
    return NotFound("not_found", "no such member", layer="identity")


def login_not_found() -> NotFound:
    return NotFound("not_found", "no such login", layer="identity")


def no_login() -> Invalid:
    return Invalid("no_login", "this credential belongs to no login: an API key is revoked", layer="identity")


def invitation_not_found() -> NotFound:
    return NotFound("not_found", "no such invitation", layer="identity")


def invitation_taken() -> Conflict:
    return Conflict(
        "invitation_taken", "this address is invited with this role already", layer="identity", field="email"
    )
