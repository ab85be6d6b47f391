"""What the claims of a login give, by the rules of its provider. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from tenantry.capabilities.identity.types import ClaimRule, GivenRole, Match


def roles_given(rules: Iterable[ClaimRule], claims: Mapping[str, Any]) -> list[GivenRole]:
    """Collect what every matching rule gives, in order, each once. An address that is not verified is no claim."""
    seen = claims if verified_email(claims) else {name: value for name, value in claims.items() if name != "email"}
    given = [GivenRole(rule.role, rule.workspace_id) for rule in rules if _matches(rule, seen)]
    return list(dict.fromkeys(given))


def verified_email(claims: Mapping[str, Any]) -> str | None:
    """Tell the address in lower case, None unless the provider says that it is verified: true, nothing like it."""
    email = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(email, str):
        return None
    local, at, domain = email.strip().lower().rpartition("@")
    return f"{local}@{domain}" if local and at and domain and "@" not in local else None


def _matches(rule: ClaimRule, claims: Mapping[str, Any]) -> bool:
    value = _claim(claims, rule.claim)
    match rule.match:
        case Match.EQUALS:
            return _text(value) == rule.value
        case Match.CONTAINS:
            return isinstance(value, list) and rule.value in [each for each in value if isinstance(each, str)]
        case Match.MATCHES_DOMAIN:
            return isinstance(value, str) and value.strip().lower().rpartition("@")[2] == rule.value.lower()


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Find a claim by its name, which may hold dots (`https://example.com/roles`), else by a path of names."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else None
