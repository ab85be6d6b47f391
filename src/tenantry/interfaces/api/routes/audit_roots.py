"""The regions' own logs, for whoever operates the installation: their signed roots, and a tenant's place in one."""

from base64 import b64encode

from fastapi import Request

from tenantry.capabilities.access.types import Permission
from tenantry.capabilities.audit.types import SignedRoot
from tenantry.engines.merkle.checkpoints import Checkpoint
from tenantry.engines.merkle.notes import Note
from tenantry.interfaces.api.routes.audit import CheckpointAnswer, VerifierKeyAnswer, render_checkpoint
from tenantry.interfaces.api.routing import RouteRegistry
from tenantry.interfaces.api.schema import Answer, Moment
from tenantry.interfaces.api.unit import Unit, unit_of

routes = RouteRegistry()


class RootAnswer(Answer):
    region: str
    origin: str
    size: int
    root: str
    made_at: Moment
    note: str
    signed_by: list[str]
    keys: list[VerifierKeyAnswer]


class RootsAnswer(Answer):
    items: list[RootAnswer]
    next_cursor: None = None


class AnchorAnswer(Answer):
    checkpoint: CheckpointAnswer
    index: int
    leaf: str
    path: list[str]
    root: RootAnswer


@routes.get("/platform/audit/roots", needs=Permission.PLATFORM_ADMIN)
async def list_roots(request: Request) -> RootsAnswer:
    """The newest signed root of each region's log, whose leaves are the checkpoints of its tenants' logs.

    `signed_by` are the keys' names below the note: the region itself, then the regions that have seen it only grow.
    """
    unit = unit_of(request)
    roots = await unit.runtime.region_logs.roots()
    return RootsAnswer(items=[_root(unit, region, root) for region, root in sorted(roots.items())])


@routes.get("/tenants/{tenant}/audit-root", needs=Permission.PLATFORM_ADMIN)
async def prove_checkpoint(request: Request, tenant: str) -> AnchorAnswer:
    """Proof that a tenant's newest checkpoint is in its region's log (RFC 9162): leaf, and path to the signed root.

    Hashes are in base64. The leaf is SHA-256(0x00 ‖ the checkpoint's text, without its signatures).
    """
    unit = unit_of(request)
    checkpoint = await unit.log.checkpoint()
    anchor = await unit.runtime.region_logs.anchor(unit.scope.region, checkpoint.note)
    return AnchorAnswer(
        checkpoint=render_checkpoint(unit, checkpoint),
        index=anchor.index,
        leaf=b64encode(anchor.leaf).decode(),
        path=[b64encode(one).decode() for one in anchor.path],
        root=_root(unit, anchor.region, anchor.root),
    )


def _root(unit: Unit, region: str, found: SignedRoot) -> RootAnswer:
    note = Note.parse(found.note)
    told = Checkpoint.parse(note.text)
    keys = [key for notary in unit.runtime.notaries.values() for key in notary.verifier_keys()]
    return RootAnswer(
        region=region,
        origin=told.origin,
        size=told.size,
        root=b64encode(told.root).decode(),
        made_at=found.made_at,
        note=found.note.decode(),
        signed_by=[one.name for one in note.signatures],
        keys=[VerifierKeyAnswer(key=str(one), valid_from=one.valid_from, valid_until=one.valid_until) for one in keys],
    )
