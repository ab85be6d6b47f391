"""Channels that hear of events, of a workspace and of the whole tenant, and what was delivered to them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.notifications.service import MAX_ADDRESS, ChannelChange
from tenantry.capabilities.notifications.types import Channel, ChannelKind, ChannelStatus, Delivery
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, named, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

Kind = Annotated[ChannelKind, Field(strict=False)]
Status = Annotated[ChannelStatus, Field(strict=False)]
AddressText = Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS)]
Topics = Annotated[list[str], Field(min_length=1, max_length=50)]


class ChannelBody(Body):
    name: DisplayName
    kind: Kind
    address: AddressText = Field(description="a URL, an e-mail address, or an address of apprise; never shown again")
    topics: Topics = Field(description="a topic, all of a noun as `grant.*`, or `*`")


class ChannelChanges(Body):
    name: DisplayName | None = None
    address: AddressText | None = None
    topics: Topics | None = None
    status: Status | None = None
    rotate_secret: bool = Field(default=False, description="of a webhook; the answer shows the new one")


class ChannelAnswer(Answer):
    id: str
    workspace: str | None
    name: str
    kind: str
    hint: str = Field(description="where it leads, without what may be a secret")
    topics: list[str]
    status: str
    version: int
    created_at: Moment
    created_by: str
    updated_at: Moment


class ChannelWithSecretAnswer(ChannelAnswer):
    secret: str | None = Field(default=None, description="signs what a webhook is sent; shown once")


class DeliveryAnswer(Answer):
    id: str
    workspace: str | None
    event: str
    topic: str
    channel: str | None
    recipient: str | None
    status: str = Field(description="pending, sent or failed")
    attempts: int
    next_attempt_at: Moment | None
    last_error: str | None = Field(description="a code: what was refused, or failed")
    created_at: Moment
    sent_at: Moment | None


async def _again(unit: Unit, resource_id: str) -> ChannelWithSecretAnswer:
    return render(await unit.channels.get(parse_id(Prefix.NOTIFICATION_CHANNEL, resource_id)))


async def _tested_again(unit: Unit, resource_id: str) -> DeliveryAnswer:
    return _delivery(await unit.channels.get_delivery(parse_id(Prefix.DELIVERY, resource_id)))


async def _create(unit: Unit, body: ChannelBody) -> ChannelWithSecretAnswer:
    channel, secret = await unit.channels.create(
        name=body.name, kind=body.kind, address=body.address, topics=body.topics
    )
    unit.resource_id = format_id(Prefix.NOTIFICATION_CHANNEL, channel.channel_id)
    return _shown(unit, channel, secret)


async def _list(unit: Unit, limit: int, cursor: str | None) -> Page[ChannelAnswer]:
    found = await unit.channels.list_channels(after=after(unit, cursor), limit=limit + 1)
    items = [ChannelAnswer(**_fields(channel)) for channel in found]
    return Page[ChannelAnswer](**page(unit, items, ids=[each.channel_id for each in found], limit=limit))


async def _get(unit: Unit, channel: str) -> ChannelAnswer:
    found = await unit.channels.get(_id(channel))
    unit.show_version(found.version)
    return ChannelAnswer(**_fields(found))


async def _change(unit: Unit, channel: str, body: ChannelChanges) -> ChannelWithSecretAnswer:
    change = ChannelChange(
        name=body.name,
        address=body.address,
        topics=body.topics,
        status=body.status,
        rotate_secret=body.rotate_secret,
    )
    changed, secret = await unit.channels.change(_id(channel), change, if_version=unit.if_version)
    return _shown(unit, changed, secret)


async def _remove(unit: Unit, channel: str) -> ChannelAnswer:
    return ChannelAnswer(**_fields(await unit.channels.remove(_id(channel), if_version=unit.if_version)))


async def _test(unit: Unit, channel: str) -> DeliveryAnswer:
    delivery = await unit.channels.test(_id(channel))
    unit.resource_id = format_id(Prefix.DELIVERY, delivery.delivery_id)
    return _delivery(delivery)


async def _deliveries(unit: Unit, limit: int, cursor: str | None) -> Page[DeliveryAnswer]:
    found = await unit.channels.list_deliveries(before=after(unit, cursor), limit=limit + 1)
    items = [_delivery(each) for each in found]
    return Page[DeliveryAnswer](**page(unit, items, ids=[each.delivery_id for each in found], limit=limit))


@routes.post("/workspaces/{ws}/notification-channels", needs=Permission.WORKSPACE_UPDATE, replay=_again, status=201)
async def create_channel(request: Request, ws: str, body: ChannelBody) -> ChannelWithSecretAnswer:
    """Have events of the workspace told to a channel; a webhook's signing secret is shown here and never again."""
    return await _create(unit_of(request), body)


@routes.get("/workspaces/{ws}/notification-channels", needs=Permission.WORKSPACE_READ)
async def list_channels(request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None) -> Page[ChannelAnswer]:
    """The channels of the workspace, without their addresses."""
    return await _list(unit_of(request), limit, cursor)


@routes.get("/workspaces/{ws}/notification-channels/{channel}", needs=Permission.WORKSPACE_READ)
async def get_channel(request: Request, ws: str, channel: str) -> ChannelAnswer:
    """One channel, without its address."""
    return await _get(unit_of(request), channel)


@routes.patch("/workspaces/{ws}/notification-channels/{channel}", needs=Permission.WORKSPACE_UPDATE)
async def change_channel(request: Request, ws: str, channel: str, body: ChannelChanges) -> ChannelWithSecretAnswer:
    """Change name, address, topics or status, or have a new signing secret."""
    return await _change(unit_of(request), channel, body)


@routes.delete("/workspaces/{ws}/notification-channels/{channel}", needs=Permission.WORKSPACE_UPDATE)
async def remove_channel(request: Request, ws: str, channel: str) -> ChannelAnswer:
    """Remove a channel and its deliveries; gives what it was."""
    return await _remove(unit_of(request), channel)


@routes.post(
    "/workspaces/{ws}/notification-channels/{channel}/test",
    needs=Permission.WORKSPACE_UPDATE,
    replay=_tested_again,
    status=202,
)
async def try_channel(request: Request, ws: str, channel: str) -> DeliveryAnswer:
    """Send a notice that says it is a test; how it went stands in the delivery."""
    return await _test(unit_of(request), channel)


@routes.get("/workspaces/{ws}/notification-deliveries", needs=Permission.WORKSPACE_READ)
async def list_deliveries(
    request: Request, ws: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[DeliveryAnswer]:
    """What was and is to be told by the workspace's channels and to persons, newest first."""
    return await _deliveries(unit_of(request), limit, cursor)


@routes.post("/tenants/{tenant}/notification-channels", needs=Permission.TENANT_ADMIN, replay=_again, status=201)
async def create_tenant_channel(request: Request, tenant: str, body: ChannelBody) -> ChannelWithSecretAnswer:
    """Have events of the tenant and all its workspaces told to a channel; as in a workspace."""
    return await _create(unit_of(request), body)


@routes.get("/tenants/{tenant}/notification-channels", needs=Permission.TENANT_READ)
async def list_tenant_channels(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[ChannelAnswer]:
    """The channels of the whole tenant, without their addresses."""
    return await _list(unit_of(request), limit, cursor)


@routes.get("/tenants/{tenant}/notification-channels/{channel}", needs=Permission.TENANT_READ)
async def get_tenant_channel(request: Request, tenant: str, channel: str) -> ChannelAnswer:
    """One channel of the whole tenant, without its address."""
    return await _get(unit_of(request), channel)


@routes.patch("/tenants/{tenant}/notification-channels/{channel}", needs=Permission.TENANT_ADMIN)
async def change_tenant_channel(
    request: Request, tenant: str, channel: str, body: ChannelChanges
) -> ChannelWithSecretAnswer:
    """Change name, address, topics or status, or have a new signing secret."""
    return await _change(unit_of(request), channel, body)


@routes.delete("/tenants/{tenant}/notification-channels/{channel}", needs=Permission.TENANT_ADMIN)
async def remove_tenant_channel(request: Request, tenant: str, channel: str) -> ChannelAnswer:
    """Remove a channel and its deliveries; gives what it was."""
    return await _remove(unit_of(request), channel)


@routes.post(
    "/tenants/{tenant}/notification-channels/{channel}/test",
    needs=Permission.TENANT_ADMIN,
    replay=_tested_again,
    status=202,
)
async def try_tenant_channel(request: Request, tenant: str, channel: str) -> DeliveryAnswer:
    """Send a notice that says it is a test; how it went stands in the delivery."""
    return await _test(unit_of(request), channel)


@routes.get("/tenants/{tenant}/notification-deliveries", needs=Permission.TENANT_READ)
async def list_tenant_deliveries(
    request: Request, tenant: str, limit: Limit = 50, cursor: CursorText = None
) -> Page[DeliveryAnswer]:
    """What was and is to be told by the tenant's own channels, newest first."""
    return await _deliveries(unit_of(request), limit, cursor)


def _id(channel: str) -> UUID:
    return parse_id(Prefix.NOTIFICATION_CHANNEL, channel)


def _shown(unit: Unit, channel: Channel, secret: str | None) -> ChannelWithSecretAnswer:
    unit.show_version(channel.version)
    return ChannelWithSecretAnswer(**_fields(channel), secret=secret)


def render(channel: Channel) -> ChannelWithSecretAnswer:
    return ChannelWithSecretAnswer(**_fields(channel))


def _fields(channel: Channel) -> dict[str, Any]:
    return {
        "id": format_id(Prefix.NOTIFICATION_CHANNEL, channel.channel_id),
        "workspace": named(Prefix.WORKSPACE, channel.workspace_id),
        "name": channel.name,
        "kind": channel.kind,
        "hint": channel.hint,
        "topics": list(channel.topics),
        "status": channel.status,
        "version": channel.version,
        "created_at": channel.created_at,
        "created_by": channel.created_by,
        "updated_at": channel.updated_at,
    }


def _delivery(delivery: Delivery) -> DeliveryAnswer:
    pending = delivery.status == "pending"
    return DeliveryAnswer(
        id=format_id(Prefix.DELIVERY, delivery.delivery_id),
        workspace=named(Prefix.WORKSPACE, delivery.workspace_id),
        event=str(delivery.event_id),
        topic=delivery.topic,
        channel=named(Prefix.NOTIFICATION_CHANNEL, delivery.channel_id),
        recipient=named(Prefix.USER, delivery.recipient_id),
        status=delivery.status,
        attempts=delivery.attempts,
        next_attempt_at=delivery.next_attempt_at if pending else None,
        last_error=delivery.last_error,
        created_at=delivery.created_at,
        sent_at=delivery.sent_at,
    )
