"""Secrets, and how one version is named."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

NAME_PATTERN: Final = r"^[A-Z_][A-Z0-9_]{0,63}$"
MAX_VALUE_BYTES: Final = 64 << 10
MAX_SECRETS: Final = 100
"""In one workspace."""
KEPT_VERSIONS: Final = 10
"""Of so many versions of a secret, the newest, the value is kept."""
SHOWN_VERSIONS: Final = 50


@dataclass(frozen=True, slots=True)
class SecretVersion:
    version: int
    created_at: datetime
    created_by: str
    kept: bool
    """Whether its value is still there."""


@dataclass(frozen=True, slots=True)
class Secret:
    """All there is to know of a secret: `version` is the newest, and what is given unless another is named."""

    secret_id: UUID
    workspace_id: UUID
    name: str
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SecretReference:
    """One version of one secret. The name is for people: what counts is the id."""

    secret_id: UUID
    name: str
    version: int
