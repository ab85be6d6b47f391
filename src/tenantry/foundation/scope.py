"""Who acts, where: the scope every service is built with, and the context variable that carries it.

Invariant: a scope is set once, at the edge (guard, worker, janitor), and is immutable. Tasks and threads started
with a copied context see their own; nothing below the edge may set it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from tenantry.foundation.errors import Fault


class ActorType(StrEnum):
    USER = "user"
    API_KEY = "api_key"
    SERVICE_ACCOUNT = "service_account"
    AGENT_SESSION = "agent_session"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `chain` names on whose behalf, nearest first: a key's service account, an agent's human."""

    type: ActorType
    id: str
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TenantScope:
    """One tenant, optionally one workspace of it, and who acts there.

    `allowed_by` names what allowed it: a binding, a grant, a key; events tell it.
    """

    tenant_id: UUID
    region: str
    actor: Actor
    workspace_id: UUID | None = None
    ip: str | None = None
    trace_id: str = ""
    allowed_by: str = ""

    def in_workspace(self, workspace_id: UUID) -> "TenantScope":
        return replace(self, workspace_id=workspace_id)


SYSTEM: Final = Actor(ActorType.SYSTEM, "tenantry")

_current: ContextVar[TenantScope | None] = ContextVar("tenantry_scope", default=None)


def current_scope() -> TenantScope | None:
    """Tell the scope of the running request or task, None outside of one."""
    return _current.get()


def require_scope() -> TenantScope:
    """Tell the scope of the running request or task; raises Fault `scope_missing` outside of one."""
    scope = _current.get()
    if scope is None:
        raise Fault("scope_missing", "this code runs outside of any tenant's request or task")
    return scope


@contextmanager
def scoped(scope: TenantScope) -> Iterator[TenantScope]:
    """Enter a scope at the edge; the former one is back afterwards, whatever happened."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)
