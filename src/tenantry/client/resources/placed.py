"""What lies in a workspace or in a tenant: give exactly one of the two."""

from typing import ClassVar, Generic, TypeVar

from tenantry.client.calls import get, place_of
from tenantry.client.operations import Listing, Resource
from tenantry.client.pages import Plan

T = TypeVar("T")
M = TypeVar("M")


class Placed(Resource[T], Generic[T, M]):
    """Things of one kind, `M`, which their address names by `kind`."""

    kind: ClassVar[str]

    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[M]:
        return Plan(call=get(*place_of(workspace, tenant), self.kind), limit=limit, cursor=cursor)
