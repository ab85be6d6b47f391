"""What identity refuses."""

from datetime import datetime

from tenantry.foundation.errors import Conflict, Denied, Invalid, NotFound, Precondition, Unauthenticated


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
