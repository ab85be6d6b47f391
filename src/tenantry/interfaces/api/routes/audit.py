"""The audit trail, queried and proved."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.service import BundleHeader, LeafLines
from tenantry.capabilities.audit.types import AuditEvent, AuditFilter, Outcome, SignedCheckpoint
from tenantry.capabilities.audit.types.words import words_of
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Note
from tenantry.engines.merkle.tree import MAX_SIZE
from tenantry.foundation.errors import Invalid
from tenantry.foundation.ids import Prefix, format_id, parse_id
from tenantry.foundation.scope import ActorType
from tenantry.interfaces.api.guard import readmit
from tenantry.interfaces.api.routing import Reach, RouteRegistry
from tenantry.interfaces.api.schema import Answer, CursorText, Instant, Limit, Moment, Page, named
from tenantry.interfaces.api.streams import Held
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()
_LINES: Final = "application/x-ndjson"


class Form(StrEnum):
    BUNDLE = "bundle"


_FORM: Final = Query(default=Form.BUNDLE, alias="format")


class EventAnswer(Answer):
    id: str
    sequence: int | None
    occurred_at: Moment
    tenant: str
    workspace: str | None
    actor: dict[str, Any]
    action: str
    resource: dict[str, str]
    outcome: str
    reason: str | None
    ip: str | None
    trace_id: str
    details: dict[str, Any]
    withheld: list[str] = Field(description="what was forgotten, or was content and is not kept, by its name")


class Order(StrEnum):
    NEWEST = "newest"
    SEQUENCE = "sequence"


class EventPage(Page[EventAnswer]):
    reached: int | None = Field(
        default=None, description="of the order `sequence`: up to where was looked, and from where to go on later"
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a query asks for, as its parameters say it."""

    actor: Annotated[str | None, Query(max_length=60)] = None
    action: Annotated[str | None, Query(max_length=80, description="a prefix: `job.` finds all of jobs")] = None
    exact: Annotated[bool, Query(description="`action` is the whole name")] = False
    resource: Annotated[str | None, Query(max_length=120, description="an id, or a type")] = None
    outcome: Outcome | None = None
    since: Instant | None = None
    until: Instant | None = None
    workspace: Annotated[str | None, Query(max_length=40)] = None
    actor_type: Annotated[ActorType | None, Query()] = None
    resource_type: Annotated[str | None, Query(max_length=60)] = None
    trace: Annotated[str | None, Query(max_length=64, description="id of a trace")] = None
    q: Annotated[str | None, Query(max_length=200, description="words, all of which stand in the event")] = None

    def filter(self, own_workspace: UUID | None) -> AuditFilter:
        if self.q is not None and not words_of(self.q):
            raise Invalid("query_without_words", "q: holds no word of letters or digits", layer="api", field="q")
        return AuditFilter(
            actor=self.actor,
            action=self.action,
            exact=self.exact,
            resource=self.resource,
            outcome=self.outcome,
            since=self.since,
            until=self.until,
            workspace_id=parse_id(Prefix.WORKSPACE, self.workspace) if self.workspace else own_workspace,
            actor_type=self.actor_type,
            resource_type=self.resource_type,
            trace=self.trace,
            text=self.q,
        )


@routes.get("/audit", needs=Permission.AUDIT_READ, narrowed=Reach.EITHER)
async def query_audit(
    request: Request,
    asked: Annotated[_Asked, Depends()],
    order: Order = Order.NEWEST,
    after: Annotated[int | None, Query(ge=0, description="of the order `sequence`: begin behind this place")] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> EventPage:
    """Events of the tenant (or of the one workspace that the credential or X-Workspace-Id names), newest first.

    A page looks at a bounded piece of the trail: it may be short, and the next one full. `q` is looked for in action,
    resource, actor, a reason that is a code, and the names in details. In the order `sequence` an event that committed
    late stands behind those before it, and one that has no place yet is not there: who goes on from `reached` misses
    none.
    """
    unit = unit_of(request)
    query = asked.filter(unit.scope.workspace_id)
    filters = f"{order}{query}"
    position = unit.read_cursor(cursor, filters=filters)
    if order is Order.SEQUENCE:
        found = await unit.audit.search_sequence(query, after=int(position or after or 0), limit=limit)
    elif after is not None:
        raise Invalid("after_without_sequence", "after: is of order=sequence alone", layer="api", field="after")
    else:
        found = await unit.audit.search(query, position=position, limit=limit)
    further = unit.make_cursor(found.position, filters=filters) if found.position else None
    return EventPage(items=[render(event) for event in found.events], next_cursor=further, reached=found.reached)


class VerifierKeyAnswer(Answer):
    key: str
    valid_from: Moment | None
    valid_until: Moment | None


class CheckpointAnswer(Answer):
    origin: str
    size: int
    root: str
    made_at: Moment
    note: str
    keys: list[VerifierKeyAnswer]


class ConsistencyAnswer(Answer):
    size: int
    path: list[str]
    checkpoint: CheckpointAnswer


class ProofAnswer(Answer):
    event: str
    index: int
    leaf: str
    path: list[str]
    checkpoint: CheckpointAnswer


@routes.get("/audit/checkpoint", needs=Permission.AUDIT_READ)
async def get_checkpoint(request: Request) -> CheckpointAnswer:
    """The newest signed checkpoint of the tenant's log: a note of C2SP over size and root, and the keys it counts by.

    `root` is in base64, as in the note. Kept elsewhere, it shows whether what comes later begins with what was.
    """
    unit = unit_of(request)
    return render_checkpoint(unit, await unit.log.checkpoint())


@routes.get("/audit/consistency", needs=Permission.AUDIT_READ)
async def prove_consistency(
    request: Request, size: int = Query(ge=1, le=MAX_SIZE, description="of a checkpoint that you have")
) -> ConsistencyAnswer:
    """Proof that the log of the newest checkpoint begins with its first `size` events, unaltered (RFC 9162).

    Whoever has kept a checkpoint of that size verifies with it that nothing before was changed. Hashes are in base64.
    """
    unit = unit_of(request)
    proof = await unit.log.prove_consistency(size)
    path = [b64encode(one).decode() for one in proof.path]
    return ConsistencyAnswer(size=proof.size, path=path, checkpoint=render_checkpoint(unit, proof.checkpoint))


@routes.get("/audit/export", needs=Permission.AUDIT_READ, media_type=_LINES, recorded=True)
async def export_log(request: Request, form: Form = _FORM) -> Response:
    """The whole log up to its newest checkpoint as one file, which `tenantry audit verify` needs no server for.

    A header, the canonical bytes of each event, then leaf hashes; `docs/how-to/verify-the-audit-log.md` has the form.
    Of events that have left their leaf hashes are in it, and the event that says so, signed.
    The trail is told.
    """
    unit = unit_of(request)
    if unit.scope.workspace_id is not None:
        raise Invalid("bundle_of_a_workspace", "X-Workspace-Id: a bundle is of a whole tenant's log", layer="api")
    notaries = unit.runtime.notaries
    origin = notaries[unit.scope.region].origin(unit.scope.tenant_id)
    keys = [key for notary in notaries.values() for key in notary.verifier_keys()]
    header = await unit.log.bundle(origin=origin, keys=keys)
    await unit.audit.record(
        "audit.exported", resource_type="tenant", resource_id=header.tenant, details={"size": header.size}
    )
    headers = {"Content-Disposition": f'attachment; filename="{unit.caller.tenant_slug}.audit"'}
    async with AsyncExitStack() as stack:
        stack.enter_context(unit.runtime.seats.taken(unit.scope.tenant_id))  # its leaf hashes are held to the end
        return Held(_bundle(unit, header), held=stack.pop_all(), media_type=_LINES, headers=headers)


async def _bundle(unit: Unit, header: BundleHeader) -> AsyncIterator[bytes]:
    """Read on to the header's size. Each page is admitted, decided and bound anew; in between nothing is held.

    What is refused then breaks the answer off, and no verifier takes what has come for whole.
    """
    leaves, last = LeafLines(), 0
    yield header.line()
    while last < header.erased:
        again = await readmit(unit, Permission.AUDIT_READ)
        async with again.session:
            left = await again.log.leaves(after=last, until=header.erased)
        if not left:
            break
        last += len(left)
        for leaf in left:
            leaves.add(leaf)
    while last < header.size:
        again = await readmit(unit, Permission.AUDIT_READ)
        async with again.session:
            events = await again.log.events(after=last, until=header.size)
            if not events or events[0][0] != last + 1:
                await again.log.require_standing(header.erased)
        if not events:
            break
        last = events[-1][0]
        for _, _, leaf in events:
            leaves.add(leaf)
        yield b"".join(canonical + b"\n" for _, canonical, _ in events)
    for line in leaves.lines():
        yield line


@routes.get("/audit/events/{event}", needs=Permission.AUDIT_READ)
async def get_event(request: Request, event: str) -> EventAnswer:
    """One event of the tenant. Of one that has left the log after its time 410, with its place and leaf hash."""
    unit = unit_of(request)
    return render(await unit.audit.get_event(parse_id(Prefix.AUDIT_EVENT, event)))


@routes.get("/audit/proof/{event}", needs=Permission.AUDIT_READ)
async def prove_event(request: Request, event: str) -> ProofAnswer:
    """Proof that an event is in the tenant's log (RFC 9162): its leaf and the path from there to a checkpoint's root.

    Hashes are in base64. The leaf is SHA-256(0x00 ‖ the event's canonical bytes). Also of one that has left the log.
    """
    unit = unit_of(request)
    proof = await unit.log.prove(parse_id(Prefix.AUDIT_EVENT, event))
    return ProofAnswer(
        event=format_id(Prefix.AUDIT_EVENT, proof.event_id),
        index=proof.index,
        leaf=b64encode(proof.leaf).decode(),
        path=[b64encode(one).decode() for one in proof.path],
        checkpoint=render_checkpoint(unit, proof.checkpoint),
    )


def render_checkpoint(unit: Unit, found: SignedCheckpoint) -> CheckpointAnswer:
    told = Checkpoint.parse(Note.parse(found.note).text)
    keys = unit.runtime.notaries[unit.scope.region].verifier_keys()
    return CheckpointAnswer(
        origin=told.origin,
        size=told.size,
        root=b64encode(told.root).decode(),
        made_at=found.made_at,
        note=found.note.decode(),
        keys=[VerifierKeyAnswer(key=str(one), valid_from=one.valid_from, valid_until=one.valid_until) for one in keys],
    )


def render(event: AuditEvent) -> EventAnswer:
    return EventAnswer(
        id=format_id(Prefix.AUDIT_EVENT, event.event_id),
        sequence=event.sequence,
        occurred_at=event.occurred_at,
        tenant=format_id(Prefix.TENANT, event.tenant_id),
        workspace=named(Prefix.WORKSPACE, event.workspace_id),
        actor={"type": event.actor.type, "id": event.actor.id, "chain": list(event.actor.chain)},
        action=event.action,
        resource={"type": event.resource_type, "id": event.resource_id},
        outcome=event.outcome,
        reason=event.reason,
        ip=event.ip,
        trace_id=event.trace_id,
        details=dict(event.details),
        withheld=list(event.withheld),
    )
