"""Shapes of secrets, and of how work is given them."""

from typing import Any, Required, TypedDict


class SecretInjection(TypedDict, total=False):
    """Requests in TLS to `host` have it: as the whole of `header`, or for the placeholder in the variable `env`."""

    host: Required[str]
    env: str
    header: str


class SecretUse(TypedDict, total=False):
    """A secret as a variable, a file below /run/secrets, or injected; the newest version unless one is named."""

    name: Required[str]
    version: int
    env: str
    file: str
    inject: SecretInjection


class Secret(TypedDict, total=False):
    """All there is to know of one; no answer has the value."""

    id: str
    name: str
    version: int
    created_at: str
    created_by: str
    updated_at: str
    versions: list[dict[str, Any]]
