"""Streams of a tenant's audit events to elsewhere."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Request
from pydantic import Field

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.service import NewStream, StreamChange
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.audit.types.streams import AuditStream, Lag, StreamFilter, StreamFormat, StreamKind
from tenantry.capabilities.limits.types.quotas import Feature
from tenantry.capabilities.notifications.service import MAX_ADDRESS
from tenantry.capabilities.tenants.types.values import DisplayName
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Body, CursorText, Limit, Moment, Page, after, page
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()

AddressText = Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS)]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=80)]], Field(max_length=50)]
Outcomes = Annotated[list[Annotated[Outcome, Field(strict=False)]], Field(max_length=3)]
Format = Annotated[StreamFormat, Field(strict=False)]
Place = Annotated[int, Field(ge=0, le=2**63 - 1)]


class FilterBody(Body):
    actions: Names = Field(
        default_factory=list, description="whole names, or with a dot at the end all of a noun: `job.`"
    )
    outcomes: Outcomes = Field(default_factory=list)
    resource_types: Names = Field(default_factory=list)

    def made(self) -> StreamFilter:
        return StreamFilter(tuple(self.actions), tuple(self.outcomes), tuple(self.resource_types))


class StreamBody(Body):
    name: DisplayName
    kind: Annotated[StreamKind, Field(strict=False)]
    format: Format = StreamFormat.CLOUDEVENTS
    address: AddressText | None = Field(default=None, description="of a webhook, https; never shown again")
    directory: str | None = Field(default=None, max_length=40, description="of files: a name the installation has")
    filter: FilterBody = FilterBody()
    after: Place | None = Field(default=None, description="begin behind this place; without it, behind all there is")


class StreamChanges(Body):
    name: DisplayName | None = None
    address: AddressText | None = None
    format: Format | None = None
    filter: FilterBody | None = None
    rotate_secret: bool = Field(default=False, description="of a webhook; the answer shows the new one")


class ReplayBody(Body):
    after: Place = Field(description="send again what stands behind this place; 0: everything")


class StreamAnswer(Answer):
    id: str
    name: str
    kind: str
    format: str
    hint: str = Field(description="where it leads, without what may be a secret")
    filter: dict[str, list[str]]
    status: str
    paused_because: str | None
    version: int
    position: int = Field(description="place of the last event that was confirmed, or passed over by the filter")
    sent: int = Field(description="events confirmed; one that came twice counts twice")
    attempts: int = Field(description="that failed since the last that did not")
    failing_since: Moment | None
    last_error: str | None = Field(description="a code: what was refused, or failed")
    last_sent_at: Moment | None
    next_attempt_at: Moment | None
    created_at: Moment
    created_by: str
    updated_at: Moment


class StreamWithLagAnswer(StreamAnswer):
    lag_events: int = Field(description="sealed and not confirmed")
    lag_seconds: float = Field(description="age of the oldest of these")


class StreamWithSecretAnswer(StreamAnswer):
    secret: str | None = Field(default=None, description="signs what a webhook is sent; shown once")


async def _again(unit: Unit, resource_id: str) -> StreamWithSecretAnswer:
    return StreamWithSecretAnswer(**_fields(await unit.audit_streams.get(_id(resource_id))))


async def _changed_again(unit: Unit, resource_id: str) -> StreamAnswer:
    return StreamAnswer(**_fields(await unit.audit_streams.get(_id(resource_id))))


@routes.post("/audit/streams", needs=Permission.TENANT_ADMIN, replay=_again, status=201, feature=Feature.AUDIT_STREAMS)
async def create_stream(request: Request, body: StreamBody) -> StreamWithSecretAnswer:
    """Have the tenant's audit events sent on, at least once and in order; a webhook's secret is shown here alone."""
    unit = unit_of(request)
    stream, secret = await unit.audit_streams.create(
        NewStream(
            name=body.name,
            kind=body.kind,
            format=body.format,
            address=body.address,
            directory=body.directory,
            filter=body.filter.made(),
            after=body.after,
        )
    )
    unit.resource_id = format_id(Prefix.AUDIT_STREAM, stream.stream_id)
    unit.show_version(stream.version)
    return StreamWithSecretAnswer(**_fields(stream), secret=secret)


@routes.get("/audit/streams", needs=Permission.AUDIT_READ)
async def list_streams(request: Request, limit: Limit = 50, cursor: CursorText = None) -> Page[StreamAnswer]:
    """The streams of the tenant, without their addresses."""
    unit = unit_of(request)
    found = await unit.audit_streams.list_streams(after=after(unit, cursor), limit=limit + 1)
    items = [StreamAnswer(**_fields(each)) for each in found]
    return Page[StreamAnswer](**page(unit, items, ids=[each.stream_id for each in found], limit=limit))


@routes.get("/audit/streams/{stream}", needs=Permission.AUDIT_READ)
async def get_stream(request: Request, stream: str) -> StreamWithLagAnswer:
    """One stream: where it is, how far behind, what has failed, and when it tries again."""
    unit = unit_of(request)
    found = await unit.audit_streams.get(_id(stream))
    lag: Lag = await unit.audit_streams.lag(found)
    unit.etag = f'"{found.version}"'
    return StreamWithLagAnswer(**_fields(found), lag_events=lag.events, lag_seconds=round(lag.seconds, 3))


@routes.patch("/audit/streams/{stream}", needs=Permission.TENANT_ADMIN)
async def change_stream(request: Request, stream: str, body: StreamChanges) -> StreamWithSecretAnswer:
    """Change name, address, format or filter, or have a new signing secret."""
    unit = unit_of(request)
    change = StreamChange(
        name=body.name,
        address=body.address,
        format=body.format,
        filter=body.filter.made() if body.filter else None,
        rotate_secret=body.rotate_secret,
    )
    changed, secret = await unit.audit_streams.change(_id(stream), change, if_version=unit.if_version)
    unit.show_version(changed.version)
    return StreamWithSecretAnswer(**_fields(changed), secret=secret)


@routes.delete("/audit/streams/{stream}", needs=Permission.TENANT_ADMIN)
async def remove_stream(request: Request, stream: str) -> StreamAnswer:
    """Remove a stream; gives what it was. What it has written stays."""
    unit = unit_of(request)
    return StreamAnswer(**_fields(await unit.audit_streams.remove(_id(stream), if_version=unit.if_version)))


@routes.post("/audit/streams/{stream}/pause", needs=Permission.TENANT_ADMIN, replay=_changed_again)
async def pause_stream(request: Request, stream: str) -> StreamAnswer:
    """Let it send nothing more, until it is resumed."""
    unit = unit_of(request)
    return _shown(unit, await unit.audit_streams.pause(_id(stream), if_version=unit.if_version))


@routes.post(
    "/audit/streams/{stream}/resume",
    needs=Permission.TENANT_ADMIN,
    replay=_changed_again,
    feature=Feature.AUDIT_STREAMS,
)
async def resume_stream(request: Request, stream: str) -> StreamAnswer:
    """Go on behind the last event that was confirmed, at once."""
    unit = unit_of(request)
    return _shown(unit, await unit.audit_streams.resume(_id(stream), if_version=unit.if_version))


@routes.post(
    "/audit/streams/{stream}/replay",
    needs=Permission.TENANT_ADMIN,
    replay=_changed_again,
    feature=Feature.AUDIT_STREAMS,
)
async def replay_stream(request: Request, stream: str, body: ReplayBody) -> StreamAnswer:
    """Send again from behind a place: a receiver drops what it has, by the events' ids."""
    unit = unit_of(request)
    again = await unit.audit_streams.replay(_id(stream), after=body.after, if_version=unit.if_version)
    return _shown(unit, again)


def _id(stream: str) -> UUID:
    return parse_id(Prefix.AUDIT_STREAM, stream)


def _shown(unit: Unit, stream: AuditStream) -> StreamAnswer:
    unit.resource_id = format_id(Prefix.AUDIT_STREAM, stream.stream_id)
    unit.show_version(stream.version)
    return StreamAnswer(**_fields(stream))


def _fields(stream: AuditStream) -> dict[str, Any]:
    active = stream.status == "active"
    return {
        "id": format_id(Prefix.AUDIT_STREAM, stream.stream_id),
        "name": stream.name,
        "kind": stream.kind,
        "format": stream.format,
        "hint": stream.hint,
        "filter": stream.filter.to_json(),
        "status": stream.status,
        "paused_because": stream.paused_because,
        "version": stream.version,
        "position": stream.position,
        "sent": stream.sent,
        "attempts": stream.attempts,
        "failing_since": stream.failing_since,
        "last_error": stream.last_error,
        "last_sent_at": stream.last_sent_at,
        "next_attempt_at": stream.next_attempt_at if active else None,
        "created_at": stream.created_at,
        "created_by": stream.created_by,
        "updated_at": stream.updated_at,
    }
