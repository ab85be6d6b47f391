from typing import TypeVar

from tenantry.client.calls import Call, delete, get, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.secret_types import Secret

T = TypeVar("T")


class Secrets(Resource[T]):
    """Named values that jobs are given, and nobody is shown."""

    @Operation
    def set(self, workspace: str, *, name: str, value: str, idempotency_key: str | None = None) -> Call[Secret]:
        """Write a secret; one of this name gets another version. `value` has at most 64 KiB, and is in no answer."""
        body = {"name": name, "value": value}
        return post("workspaces", workspace, "secrets", json=body, idempotency_key=idempotency_key)

    @Operation
    def get(self, workspace: str, secret: str) -> Call[Secret]:
        """Tell of a secret and its `versions`."""
        return get("workspaces", workspace, "secrets", secret)

    @Listing
    def list(self, workspace: str, *, limit: int | None = None, cursor: str | None = None) -> Plan[Secret]:
        return Plan(call=get("workspaces", workspace, "secrets"), limit=limit, cursor=cursor)

    @Operation
    def delete(self, workspace: str, secret: str, *, if_match: str | None = None) -> Call[None]:
        """Remove it with all its versions; jobs that wait for it fail when they begin."""
        return delete("workspaces", workspace, "secrets", secret, if_match=if_match)
