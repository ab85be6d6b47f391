from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenantry.client.calls import Call, delete, get, given, patch, post
from tenantry.client.log_types import AuditStream
from tenantry.client.operations import Listing, Operation, Resource
from tenantry.client.pages import Plan

T = TypeVar("T")


class AuditStreams(Resource[T]):
    """A tenant's audit events sent on: to a webhook, to files of the installation, to the tenant's objects."""

    @Operation
    def create(
        self,
        *,
        name: str,
        kind: str,
        format: str = "cloudevents",  # noqa: A002 - the API's name of it
        address: str | None = None,
        directory: str | None = None,
        filter: Mapping[str, Sequence[str]] | None = None,  # noqa: A002 - the same
        after: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[AuditStream]:
        """`kind`: `webhook` (with `address`), `file` (with `directory`) or `object`; `format`: `cloudevents` or `ocsf`.

        It begins behind the place `after`, else behind all there is. A webhook's `secret` is in this answer alone.
        """
        body = given(name=name, kind=kind, format=format, address=address, directory=directory, after=after)
        return post(
            "audit",
            "streams",
            json={**body, **({"filter": {each: list(of) for each, of in filter.items()}} if filter else {})},
            idempotency_key=idempotency_key,
        )

    @Listing
    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Plan[AuditStream]:
        return Plan(call=get("audit", "streams"), limit=limit, cursor=cursor)

    @Operation
    def get(self, stream: str) -> Call[AuditStream]:
        """Read where it is, how far behind, what has failed, and when it tries again."""
        return get("audit", "streams", stream)

    @Operation
    def update(self, stream: str, changes: Mapping[str, object], *, if_match: str | None = None) -> Call[AuditStream]:
        """Change `name`, `address`, `format`, `filter`; `rotate_secret` gives a webhook another one, shown here."""
        return patch("audit", "streams", stream, json=changes, if_match=if_match)

    @Operation
    def pause(self, stream: str) -> Call[AuditStream]:
        return post("audit", "streams", stream, "pause")

    @Operation
    def resume(self, stream: str) -> Call[AuditStream]:
        """Go on behind the last event that was confirmed, at once."""
        return post("audit", "streams", stream, "resume")

    @Operation
    def replay(self, stream: str, *, after: int) -> Call[AuditStream]:
        """Send again what stands behind a place; 0: everything."""
        return post("audit", "streams", stream, "replay", json={"after": after})

    @Operation
    def remove(self, stream: str, *, if_match: str | None = None) -> Call[AuditStream | None]:
        return delete("audit", "streams", stream, if_match=if_match)
