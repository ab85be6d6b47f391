from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tenantry.client.calls import Call, delete, etag_of, get, given, patch, post
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan
from tenantry.client.types import Owner, Tenant

T = TypeVar("T")


class Tenants(Resource[T]):
    """Organisations. `tenant` is an id or a slug."""

    @Operation
    def create(
        self,
        /,
        *,
        name: str,
        slug: str,
        plan: str,
        region: str,
        owner: Owner,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Call[Tenant]:
        """Answer with `bootstrap_key`, the owner's way in, shown only here.

        `more`: isolation, settings, quotas, limits, billing, contacts, metadata, clock_skew_ms.
        """
        body = given(name=name, slug=slug, plan=plan, region=region, owner=owner, **more)
        return post("tenants", json=body, idempotency_key=idempotency_key)

    @Operation
    def get(self, tenant: str) -> Call[Tenant]:
        return get("tenants", tenant)

    @Operation
    def etag(self, tenant: str) -> Call[str | None]:
        """Its version now, for `if_match`."""
        return replace(get("tenants", tenant), parse=etag_of)

    @Listing
    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Plan[Tenant]:
        return Plan(call=get("tenants"), limit=limit, cursor=cursor)

    @Operation
    def update(self, tenant: str, changes: Mapping[str, object], *, if_match: str | None = None) -> Call[Tenant]:
        """Raise ApiError 412 when `if_match` is not its version any more."""
        return patch("tenants", tenant, json=changes, if_match=if_match)

    @Operation
    def suspend(self, tenant: str, *, reason: str) -> Call[Tenant]:
        """Refuse its requests and stop what it runs."""
        return post("tenants", tenant, "suspend", json={"reason": reason})

    @Operation
    def resume(self, tenant: str) -> Call[Tenant]:
        return post("tenants", tenant, "resume")

    @Operation
    def delete(self, tenant: str, *, if_match: str | None = None) -> Call[Tenant | None]:
        """Soft: schedules erasure; `restore` takes it back until then."""
        return delete("tenants", tenant, if_match=if_match)

    @Operation
    def restore(self, tenant: str) -> Call[Tenant]:
        return post("tenants", tenant, "restore")
