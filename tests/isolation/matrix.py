"""The matrix: route, who asks, which id; what must come of it is derived from the registry and the built-in roles.

Nothing here lists routes. A route whose parameters or body nobody knows raises UnknownToTheGeneratorError.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from tests.isolation.bodies import JSON, UNREADABLE, UnknownToTheGeneratorError, body_of
from tests.isolation.grounds import KINDS, SLUGS, WHOLE_TENANT, WORDS, Actor, Grounds
from tests.isolation.wire import Headers

from tenantry.capabilities.access.types import Permission
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.interfaces.api.app import _OUTSIDE
from tenantry.interfaces.api.routing import PREFIX, Mark, Reach, RouteSpec

# Queries without which a route would not end, or not begin.
_QUERIES: Final = {
    "/audit/consistency": "?size=1",
    "/workspaces/{ws}/jobs/{job}/logs": "?follow=false",
    "/workspaces/{ws}/policies/proof": "?kind=image",
    "/tenants/{tenant}/policies/proof": "?kind=image",
    "/workspaces/{ws}/sandboxes/{sandbox}/files": "?path=x",
}
_ASKING: Final = frozenset({"/auth/login", "/auth/callback"})
"""What anybody may ask, and nobody without saying whom about."""
_MALFORMED: Final = "not-an-id"
_WITHIN: Final = frozenset({"port", "path"})
"""Of a thing, and none themselves."""
_THINGS: Final = KINDS.keys() | SLUGS | WORDS.keys()


@dataclass(frozen=True)
class Verdict:
    """`status` and, of a refusal, its `code`. `absent` marks what must not be told from an id that never was."""

    status: int
    code: str = ""
    absent: bool = False

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()


@dataclass(frozen=True)
class Case:
    """One request: `varied` is the parameter that is not the caller's own, `variant` whose it is."""

    spec: RouteSpec
    actor: Actor
    varied: str
    variant: str
    values: dict[str, str] = field(hash=False)
    verdict: Verdict

    @property
    def target(self) -> str:
        return target_of(self.spec, self.values)

    def request(self, grounds: Grounds) -> tuple[Headers, bytes | None]:
        """What is sent: where it must be refused a body that does the thing, where it may pass one that stops."""
        if self.spec.raw_body:
            return (("Content-Type", "application/x-tar"),), b""
        if self.spec.method == "GET":
            return (), None
        passes = self.verdict in (_STOPPED, _UNREAD)
        body = UNREADABLE if passes else body_of(self.spec, grounds)
        return ((JSON,), body) if body is not None else ((), None)

    def __str__(self) -> str:
        about = f"{self.varied}={self.variant}" if self.varied else "own"
        return f"{self.actor.name} {self.spec.method} {self.spec.path} [{about}]"


_ABSENT: Final = Verdict(404, "not_found", absent=True)
_FOREIGN_TENANT: Final = Verdict(403, "tenant_mismatch", absent=True)
_MISSING: Final = Verdict(403, "permission_missing")
_MALFORMED_ID: Final = Verdict(422, "id_malformed")
_STOPPED: Final = Verdict(400, "body_unreadable")
_ASLEEP: Final = Verdict(409, "sandbox_not_running")
"""What a route answers that speaks with a running sandbox, of one that does not run."""
_NO_PORT: Final = Verdict(422, "invalid_request")
_UNREAD: Final = Verdict(422, "policy_invalid")
"""What a route answers that reads a document itself."""


def target_of(spec: RouteSpec, values: dict[str, str]) -> str:
    path = spec.path.format(**values)
    return (path if spec.path in _OUTSIDE else f"{PREFIX}{path}") + _QUERIES.get(spec.path, "")


def grows(spec: RouteSpec) -> bool:
    """Whether what it answers is another at every request, since each is an event."""
    return "/audit" in spec.path


def place_of(spec: RouteSpec, grounds: Grounds) -> str:
    """Where the things that the path names lie."""
    return grounds.own if "ws" in spec.parameters else WHOLE_TENANT


def own_values(spec: RouteSpec, grounds: Grounds) -> dict[str, str]:
    """The caller's own ids for each parameter of the path."""
    place = place_of(spec, grounds)
    values = {}
    for name in spec.parameters:
        if name == "tenant":
            values[name] = grounds.tenant.id
        elif name == "ws":
            values[name] = grounds.own
        elif name in WORDS:
            values[name] = WORDS[name]
        elif (place, name) in grounds.things:
            values[name] = grounds.things[place, name]
        else:
            raise UnknownToTheGeneratorError(f"{spec.path}: nobody knows a {name!r} in {place!r}: furnish one")
    return values


def cases_of(
    spec: RouteSpec, grounds: Grounds, others: dict[str, Grounds], *, every_role: bool = True
) -> Iterator[Case]:
    """Every case of a route: all own, then each parameter in turn somebody else's, gone, or never there.

    Not for `every_role`: of those who must be answered alike whatever they name, one; for each route another.
    """
    own = own_values(spec, grounds)
    variations = [("", "own", own)]
    for name in spec.parameters:
        variations += [(name, variant, own | values) for variant, values in _variants(spec, name, grounds, others)]
    judged = {
        actor: tuple(_judge(spec, actor, varied, variant) for varied, variant, _ in variations)
        for actor in grounds.actors
    }
    for actor in grounds.actors if every_role else _one_of_each(spec, judged):
        for (varied, variant, values), verdict in zip(variations, judged[actor], strict=True):
            yield Case(spec, actor, varied, variant, values, verdict)


def _one_of_each(spec: RouteSpec, judged: dict[Actor, tuple[Verdict, ...]]) -> list[Actor]:
    alike: dict[object, list[Actor]] = {}
    for actor, verdicts in judged.items():
        alike.setdefault((actor.narrow, bool(actor.in_tenant), verdicts), []).append(actor)
    turn = crc32(f"{spec.method} {spec.path}".encode())
    return [actors[turn % len(actors)] for actors in alike.values()]


def _variants(
    spec: RouteSpec, name: str, grounds: Grounds, others: dict[str, Grounds]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield values of one parameter. Another's tenant or workspace comes with what really lies in it."""
    if name in ("tenant", "ws"):
        for variant, other in others.items():
            yield variant, own_values(spec, other)
        yield "malformed", {name: _MALFORMED}
    if name == "tenant":
        yield "slug", {name: grounds.tenant.slug}
        yield "never", {name: format_id(Prefix.TENANT, new_id())}
    elif name == "ws":
        yield "never", {name: format_id(Prefix.WORKSPACE, new_id())}
        yield "sibling", {name: grounds.sibling} | _things_at(spec, grounds, grounds.sibling)
        yield "archived", {name: grounds.archived}
    else:
        yield from _variants_of_thing(spec, name, grounds, others)


def _variants_of_thing(
    spec: RouteSpec, name: str, grounds: Grounds, others: dict[str, Grounds]
) -> Iterator[tuple[str, dict[str, str]]]:
    if name in WORDS:
        yield "never", {name: f"n-{secrets.token_hex(5)}"}
        yield "malformed", {name: _MALFORMED}
        return
    place = place_of(spec, grounds)
    yield "never", {name: f"n-{secrets.token_hex(5)}" if name in SLUGS else format_id(KINDS[name], new_id())}
    yield "malformed", {name: _MALFORMED}
    if (grounds.sibling, name) in grounds.things:
        yield "sibling", {name: grounds.things[grounds.sibling, name]}
    if (place, name) in grounds.gone:
        yield "gone", {name: grounds.gone[place, name]}
    for variant, other in others.items():
        yield variant, {name: other.things[place_of(spec, other), name]}


def _things_at(spec: RouteSpec, grounds: Grounds, workspace: str) -> dict[str, str]:
    return {name: grounds.things[workspace, name] for name in spec.parameters if name in _THINGS and name not in WORDS}


def _judge(spec: RouteSpec, actor: Actor, varied: str, variant: str) -> Verdict:
    """Tell the rule's answer, in the guard's order: which place, whether it is known, what is held, what is there."""
    if varied == "tenant" and variant != "slug":
        return _FOREIGN_TENANT
    if varied == "ws" and (refusal := _unseen(actor, variant)):
        return refusal
    if isinstance(spec.needs, Permission) and spec.needs not in _held(spec, actor, varied, variant):
        return _MISSING
    if varied == "ws" and variant == "archived" and not spec.reads and not spec.closed_too:
        return Verdict(403, "workspace_archived")
    inner = varied in _THINGS - _WITHIN or (variant == "archived" and any(name in _THINGS for name in spec.parameters))
    if inner:
        return _MALFORMED_ID if variant == "malformed" and varied not in SLUGS | WORDS.keys() else _ABSENT
    return _NO_PORT if varied == "port" else _passed(spec)


def _unseen(actor: Actor, variant: str) -> Verdict | None:
    """Refuse a workspace that is not the caller's to know of."""
    if variant == "malformed":
        return _MALFORMED_ID
    visible = variant in ("sibling", "archived") and not actor.narrow and bool(actor.in_tenant)
    return None if visible else _ABSENT


def _held(spec: RouteSpec, actor: Actor, varied: str, variant: str) -> frozenset[Permission]:
    in_own = actor.in_own if not (varied == "ws" and variant in ("sibling", "archived")) else frozenset()
    if spec.reach is Reach.TENANT:
        return actor.in_tenant
    if spec.reach is Reach.EITHER and not actor.narrow:
        return actor.in_tenant
    return actor.in_tenant | in_own


def _passed(spec: RouteSpec) -> Verdict:
    """What proves that the guard let it through, without doing anything."""
    if spec.socket or spec.rest or (spec.path.endswith("/{sandbox}/files") and spec.method in ("GET", "PUT")):
        return _ASLEEP
    if spec.path in _ASKING:
        return Verdict(422, "invalid_request")
    if spec.needs is Mark.PUBLIC and spec.method != "GET":
        return _STOPPED
    if spec.needs is Mark.PUBLIC or spec.method == "GET":
        return Verdict(spec.status)
    if spec.raw_body:
        return Verdict(422, "invalid_request")
    return _UNREAD if spec.document else _STOPPED
