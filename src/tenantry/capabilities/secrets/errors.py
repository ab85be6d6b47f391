"""What secrets refuse. No message has a value, or a part of one."""

from tenantry.capabilities.secrets.types import MAX_SECRETS, SecretReference
from tenantry.foundation.errors import Exhausted, Gone, Invalid, NotFound, Precondition

_LAYER = "secrets"


def secret_not_found() -> NotFound:
    return NotFound("not_found", "no such secret", layer=_LAYER)


def secret_unknown(name: str, version: int | None) -> Invalid:
    wanted = name if version is None else f"{name} of version {version}"
    return Invalid(
        "secret_unknown",
        f"secrets: there is no {wanted} in this workspace: write it first, or leave it out",
        layer=_LAYER,
        field="secrets",
        allow_with=(f"tenantry secret set {name}",),
    )


def secret_missing(reference: SecretReference) -> Gone:
    return Gone(
        "secret_missing",
        f"secret {reference.name}, version {reference.version}, was removed after it was promised",
        layer=_LAYER,
    )


def too_many_secrets(current: int) -> Exhausted:
    return Exhausted(
        "secret_limit",
        f"a workspace has at most {MAX_SECRETS} secrets: remove one",
        layer=_LAYER,
        limit=MAX_SECRETS,
        current=current,
    )


def version_mismatch(current: int) -> Precondition:
    return Precondition(
        "version_mismatch",
        "the secret has changed since it was read: read it again and repeat",
        layer=_LAYER,
        current=f'"{current}"',
    )
