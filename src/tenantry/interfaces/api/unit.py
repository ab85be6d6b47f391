"""The unit of work of one request: its scope, its transaction, and the services built on them."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from starlette.requests import Request

from tenantry.capabilities.access.errors import permission_missing
from tenantry.capabilities.access.service import (
    decide,
    joined,
)
from tenantry.capabilities.access.types import Caller, Decision, Permission
from tenantry.capabilities.audit.service import Recorded
from tenantry.foundation.caches.vouchers import Lease
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Invalid, Precondition
from tenantry.foundation.scope import TenantScope
from tenantry.interfaces.api.judgement import Judgement
from tenantry.interfaces.api.services import Services
from tenantry.kit.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from tenantry.interfaces.api.runtime import Runtime


_DIGEST: Final = re.compile(r"\.[0-9a-f]{16}$")


class Unchanged(Exception):
    """The caller holds this very version already; the guard answers 304, and nothing is rendered."""


class Unit(Services):
    """One request inside one tenant. Services share its session; the guard commits it."""

    def __init__(
        self,
        *,
        runtime: "Runtime",
        request: Request,
        caller: Caller,
        scope: TenantScope,
        judgement: Judgement,
        lifecycle: bool,
        about: UUID | None = None,
    ) -> None:
        self.about = about or scope.tenant_id
        """Which tenant the request is about: the scope's, or one that was erased, which has no scope any more."""
        self.runtime = runtime
        self.request = request
        self.caller = caller
        self.lifecycle = lifecycle
        self.scope = scope
        self.judgement = judgement
        self.session: TenantSession = runtime.cells.session(scope, lifecycle=lifecycle)
        self.recorded: list[Recorded] = []
        """What has committed of its effects, in whosever log."""
        self.etag: str | None = None
        self.resource_id: str | None = None
        self.on_settle: Callable[[], Awaitable[None]] | None = None
        """What belongs into the transaction of the effect: the idempotency record."""
        self.tell: Callable[[Mapping[str, object]], None] | None = None
        """How a handler says how far its work is, with a `phase` and numbers; None where nobody follows it."""
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        """What follows the commit, before the answer; a crash in between must be harmless."""

    async def settle(self) -> None:
        """Commit before the handler is done, for one that then waits: what the guard would do after it.

        Raises Denied where the answer depended on the thing and no handler has told of it: nothing is kept then.
        """
        question = self.judgement
        if not question.settled and question.permission and question.decision:
            raise permission_missing(question.permission, question.decision)
        if self.on_settle is not None:
            await self.on_settle()
            self.on_settle = None
        await self.session.commit()

    def judge(self, *, environment: str | None, labels: Mapping[str, str]) -> None:
        """Decide again where the answer depends on the thing itself; raises Denied `permission_missing`.

        Called by each handler that reads or makes such a thing, for every one, before it shows or does anything.
        """
        question = self.judgement
        if question.permission is None or (question.settled and not question.about.told):
            return
        about = replace(question.about, told=True, environment=environment, labels=labels)
        decision = decide(self.caller.access, question.permission, self.scope.workspace_id, about)
        if not decision.allowed:
            raise permission_missing(question.permission, decision)
        self.judgement = replace(question, decision=decision, about=about)
        self.scope = self.session.scope = replace(self.scope, allowed_by=decision.source or "")

    def require(self, permission: Permission) -> Decision:
        """Ask for more than the route does, where what is asked takes more; raises Denied `permission_missing`."""
        decision = decide(self.caller.access, permission, self.scope.workspace_id, self.judgement.about)
        if not decision.allowed:
            raise permission_missing(permission, decision)
        return decision

    def require_beside(self, permission: Permission) -> UUID | None:
        """Require more of work that outlives the request; gives the just-in-time grant that alone allows it, if any.

        Denied too where that and what the route asks for are each allowed by another grant alone.
        """
        own, decision = self.judgement.decision, self.require(permission)
        if own is not None and not (decision := joined(own, decision)).allowed:
            raise permission_missing(permission, decision)
        return decision.grant_id

    @property
    def if_version(self) -> int | None:
        """The version that If-Match names, None when it names none; raises Precondition for anything unreadable.

        Of a tag `version.digest` the version counts: what a digest tells apart is read, not changed.
        """
        text = self.request.headers.get("if-match")
        if text is None or text == "*":
            return None
        number = _DIGEST.sub("", text.strip('"'))
        if not number.isdecimal() or len(number) > 18:  # noqa: PLR2004 - bigint
            raise Precondition("version_mismatch", "If-Match: names no version of this resource", layer="api")
        return int(number)

    def show_version(self, version: int, *, lasting: bool = True) -> None:
        """Answer with the ETag of a version that was read in this transaction; raises Unchanged (ADR 0017).

        Not `lasting` is an address that may come to mean another resource, whose versions begin anew: a slug.
        """
        self.show_tag(str(version), lasting=lasting)

    def show_tag(self, tag: str, *, lasting: bool = True) -> None:
        """Answer with this ETag, of `[A-Za-z0-9.-]`; raises Unchanged when a GET names it in If-None-Match."""
        self.etag = f'"{tag}"'
        if not lasting:
            return
        if self.request.method == "GET" and self.etag in _tags(self.request.headers.getlist("if-none-match")):
            raise Unchanged

    async def show_vouched(self, name: str) -> None:
        """Raise Unchanged if the store vouches that the caller holds the present version, asking no database.

        `name` is that of `foundation/changes`, of what the guard has let the caller read. Else whoever holds the lease
        says afterwards which version it has read. Only what server processes alone change may be asked for (ADR 0017).
        """
        if self.lifecycle or "if-none-match" not in self.request.headers:
            return
        tenant_id, region = self.scope.tenant_id, self.scope.region
        cell, vouchers = self.runtime.cells.get(region), self.runtime.vouchers[region]
        if not cell.fresh_for(tenant_id):
            return
        told = await vouchers.ask(tenant_id, name)
        if isinstance(told, Lease):
            lease = told

            async def fill() -> None:
                if self.etag is not None:
                    await vouchers.fill(lease, self.etag.strip('"'))

            self.afterwards.append(fill)
        # Asked again: news of a change may have stopped to come while the store was asked.
        elif told is not None and cell.fresh_for(tenant_id):
            self.show_tag(told)

    def read_cursor(self, cursor: str | None, *, filters: str = "") -> str | None:
        """Open the cursor of this very list; raises Invalid `cursor_invalid` for any other."""
        if cursor is None:
            return None
        position = decode_cursor(
            key=self.runtime.cursor_key, binding=self._binding(filters), cursor=cursor, now=self._now()
        )
        if position is None:
            raise Invalid("cursor_invalid", "cursor: not one of this list, or too old: begin anew", layer="api")
        return position

    def make_cursor(self, position: str, *, filters: str = "") -> str:
        return encode_cursor(
            key=self.runtime.cursor_key, binding=self._binding(filters), position=position, now=self._now()
        )

    def _binding(self, filters: str) -> str:
        workspace = self.scope.workspace_id.hex if self.scope.workspace_id else "*"
        return f"{self.scope.tenant_id.hex}/{workspace}/{self.request.url.path}?{filters}"

    def _now(self) -> int:
        return int(self.runtime.clock.now().timestamp())


def _tags(headers: list[str]) -> set[str]:
    """Read the tags of If-None-Match by weak comparison (RFC 9110 §13.1.2); what is no tag matches nothing.

    `*` is no tag of ours: every GET would be 304, and nobody would see an answer.
    """
    return {tag.strip().removeprefix("W/") for header in headers for tag in header.split(",")}


def unit_of(request: Request) -> Unit:
    """Give the unit that the guard made for this request."""
    unit: Unit = request.state.unit
    return unit
