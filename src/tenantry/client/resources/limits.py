"""Limits of a workspace or of a tenant, give exactly one of the two: rates of requests, quotas, bounds of a job."""

from collections.abc import Mapping
from typing import Any, TypeVar

from tenantry.client.calls import Call, get, patch, place_of, put
from tenantry.client.operations import Operation, Resource
from tenantry.client.types import Limits as LimitsAnswer
from tenantry.client.types import RateStandings

T = TypeVar("T")


class Limits(Resource[T]):
    @Operation
    def get(self, *, workspace: str | None = None, tenant: str | None = None) -> Call[LimitsAnswer]:
        """Tell what holds there, which layer each number comes from, and what is set there."""
        return get(*place_of(workspace, tenant), "limits")

    @Operation
    def replace(
        self,
        rates: Mapping[str, Mapping[str, Any]],
        numbers: Mapping[str, float] | None = None,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[LimitsAnswer]:
        """Set rates by name, each with `max_requests`, `window_ms` and perhaps `burst`, and numbers; nothing else is.

        They can only narrow what the layers above allow.
        """
        body = {"rates": dict(rates), **(numbers or {})}
        return put(*place_of(workspace, tenant), "limits", json=body, if_match=if_match)

    @Operation
    def change(
        self,
        numbers: Mapping[str, float | str | None],
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[LimitsAnswer]:
        """Set the named numbers, with None one is not set any more; `on_limit` is reject or queue, of a workspace."""
        return patch(*place_of(workspace, tenant), "limits", json=dict(numbers), if_match=if_match)

    @Operation
    def standing(self, *, workspace: str | None = None, tenant: str | None = None) -> Call[RateStandings]:
        """Tell each rate that holds there, which layer gave it, and what is left of it for this credential."""
        return get(*place_of(workspace, tenant), "rate-limits")
