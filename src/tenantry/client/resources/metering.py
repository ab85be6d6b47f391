"""What was used, in a workspace or a tenant: give exactly one of the two."""

from pathlib import Path
from typing import TypeVar

from tenantry.client.calls import get, place_of
from tenantry.client.operations import Download, Listing, Resource
from tenantry.client.pages import Plan
from tenantry.client.saving import Saving
from tenantry.client.types import Metered

T = TypeVar("T")


class Metering(Resource[T]):
    """`since` (inclusive) and `until` (exclusive) are RFC 3339; without them it is the last day."""

    @Listing
    def list(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        since: str | None = None,
        until: str | None = None,
        meter: str | None = None,
        granularity: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[Metered]:
        """Walk through hours, or with `granularity` `event` through events, oldest first."""
        query = {"since": since, "until": until, "meter": meter, "granularity": granularity}
        return Plan(call=get(*place_of(workspace, tenant), "metering", query=query), limit=limit, cursor=cursor)

    @Download
    def export(
        self,
        *,
        to: Path,
        form: str = "csv",
        workspace: str | None = None,
        tenant: str | None = None,
        since: str | None = None,
        until: str | None = None,
        meter: str | None = None,
        granularity: str | None = None,
    ) -> Saving:
        """Save the whole span to a file, as `csv`, or its events as `cloudevents`."""
        query = {"since": since, "until": until, "meter": meter, "granularity": granularity, "format": form}
        return Saving(call=get(*place_of(workspace, tenant), "metering", query=query), to=to)
