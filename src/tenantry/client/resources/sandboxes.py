"""Sandboxes that live."""

from typing import Any, TypeVar

from tenantry.client.calls import get
from tenantry.client.operations import Listing
from tenantry.client.pages import Plan
from tenantry.client.resources.sandbox_access import SandboxAccess

T = TypeVar("T")


class Sandboxes(SandboxAccess[T]):
    """Sandboxes of a workspace, and what runs in one."""

    @Listing
    def list(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[dict[str, Any]]:
        """List them, newest first."""
        return Plan(call=get("workspaces", workspace, "sandboxes"), limit=limit, cursor=cursor)
