from collections.abc import Mapping, Sequence
from typing import TypeVar

from tenantry.client.calls import Call, delete, get, patch, place_of, post
from tenantry.client.operations import Listing, Operation
from tenantry.client.pages import Plan
from tenantry.client.resources.placed import Placed
from tenantry.client.types import NotificationChannel, NotificationDelivery

T = TypeVar("T")

_CHANNELS = "notification-channels"


class NotificationChannels(Placed[T, NotificationChannel]):
    """Who is told of events: of a workspace, or with `tenant` of the tenant and all its workspaces."""

    kind = _CHANNELS

    @Operation
    def create(
        self,
        *,
        name: str,
        kind: str,
        address: str,
        topics: Sequence[str],
        workspace: str | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[NotificationChannel]:
        """`kind` is `webhook`, `email` or `apprise`; a webhook's `secret` is in this answer and in no other."""
        body = {"name": name, "kind": kind, "address": address, "topics": list(topics)}
        return post(*place_of(workspace, tenant), _CHANNELS, json=body, idempotency_key=idempotency_key)

    @Operation
    def get(
        self, channel: str, *, workspace: str | None = None, tenant: str | None = None
    ) -> Call[NotificationChannel]:
        return get(*place_of(workspace, tenant), _CHANNELS, channel)

    @Operation
    def update(
        self,
        channel: str,
        changes: Mapping[str, object],
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[NotificationChannel]:
        """Change `name`, `address`, `topics`, `status`; `rotate_secret` gives a webhook another one, shown here."""
        return patch(*place_of(workspace, tenant), _CHANNELS, channel, json=changes, if_match=if_match)

    @Operation
    def remove(
        self,
        channel: str,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        if_match: str | None = None,
    ) -> Call[NotificationChannel | None]:
        return delete(*place_of(workspace, tenant), _CHANNELS, channel, if_match=if_match)

    @Operation
    def test(
        self, channel: str, *, workspace: str | None = None, tenant: str | None = None
    ) -> Call[NotificationDelivery]:
        """Have a test notice sent; its delivery tells how it went."""
        return post(*place_of(workspace, tenant), _CHANNELS, channel, "test")

    @Listing
    def deliveries(
        self,
        *,
        workspace: str | None = None,
        tenant: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Plan[NotificationDelivery]:
        """Newest first."""
        return Plan(call=get(*place_of(workspace, tenant), "notification-deliveries"), limit=limit, cursor=cursor)
