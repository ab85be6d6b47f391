"""News of changed resources: how they are named, where they are told, and who is asked before and after a commit.

A name is `<noun>/<32 hexadecimal digits>`, or `EVERYTHING` of the tenant. It stands in SQL and in keys as it is, so
`require_name` lets nothing else pass.
"""

import re
from collections.abc import Collection
from typing import Final, Protocol
from uuid import UUID

from tenantry.foundation.errors import Fault

CHANGES: Final = "tenantry_changes"
"""NOTIFY channel of a cell; the payload is `<tenant hex>/<name>`."""
EVERYTHING: Final = "all"

_NAME: Final = re.compile(r"[a-z_]{1,40}/[0-9a-f]{32}")


class ChangeKeeper(Protocol):
    """Keeps what others remember of a resource from outliving a change of it. Neither call raises TenantryError."""

    async def close(self, tenant_id: UUID, names: Collection[str]) -> None:
        """Before the commit: nobody vouches for these, and nobody begins to."""
        ...

    async def open(self, tenant_id: UUID, names: Collection[str]) -> None:
        """After the commit and before its answer: who reads from now on may vouch for what was read."""
        ...


def name_of(noun: str, resource_id: UUID) -> str:
    return f"{noun}/{resource_id.hex}"


def is_name(text: str) -> bool:
    return text == EVERYTHING or _NAME.fullmatch(text) is not None


def require_name(name: str) -> str:
    """Give the name; raises Fault for what is none."""
    if not is_name(name):
        raise Fault("change_unnamed", "a change is named by a noun and an id", layer="database")
    return name
