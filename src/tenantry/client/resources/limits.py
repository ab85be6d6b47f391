"""Rates of requests, of a workspace or of a tenant: give exactly one of the two."""

from collections.abc import Mapping
from typing import Any, TypeVar

from tenantry.client.calls import Call, get, place_of, put
from tenantry.client.operations import Operation, Resource
from tenantry.client.types import Limits as LimitsAnswer
from tenantry.client.types import RateStandings

T = TypeVar("T")


class Limits(Resource[T]):
    @Operation
    def get(self, *, workspace: str | None = None, tenant: str | None = None) -> Call[LimitsAnswer]:
        """Tell what is set there; `standing` tells what holds."""
        return get(*place_of(workspace, tenant), "limits")

    @Operation
    def replace(
        self,
        rates: Mapping[str, Mapping[str, Any]],
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[LimitsAnswer]:
        """Set rates by name, each with `max_requests`, `window_ms` and perhaps `burst`; they can only narrow."""
        return put(*place_of(workspace, tenant), "limits", json={"rates": dict(rates)}, if_match=if_match)

    @Operation
    def standing(self, *, workspace: str | None = None, tenant: str | None = None) -> Call[RateStandings]:
        """Tell each rate that holds there, which layer gave it, and what is left of it for this credential."""
        return get(*place_of(workspace, tenant), "rate-limits")
