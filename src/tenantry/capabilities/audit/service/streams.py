"""Streams of one tenant: made, changed, paused, resumed, replayed, removed."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit import repository
from tenantry.capabilities.audit.errors import (
    stream_field,
    stream_not_found,
    stream_taken,
    stream_version_mismatch,
    too_many_streams,
)
from tenantry.capabilities.audit.ports import Addresses
from tenantry.capabilities.audit.service.events import AuditService
from tenantry.capabilities.audit.types.streams import (
    MAX_STREAMS,
    AuditStream,
    Lag,
    StreamFilter,
    StreamFormat,
    StreamKind,
    StreamStatus,
    Target,
)
from tenantry.engines.envelope.keyring import Keyring
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id

ASKED: Final = "asked"
"""Why a stream is paused: its owner has asked for it."""


@dataclass(frozen=True, slots=True, repr=False)
class NewStream:
    """A stream to be made. `address` is a webhook's, `directory` the name of one of the installation's for files.

    It begins behind the place `after`; None: behind all events that there are.
    """

    name: str
    kind: StreamKind
    format: StreamFormat
    address: str | None = None
    directory: str | None = None
    filter: StreamFilter = field(default_factory=StreamFilter)
    after: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class StreamChange:
    """What of a stream changes; None: as it is. `rotate_secret` gives a webhook another secret at once."""

    name: str | None = None
    address: str | None = None
    format: StreamFormat | None = None
    filter: StreamFilter | None = None
    rotate_secret: bool = False


class TargetSeals:
    """Seals where a webhook leads under the tenant's keyset, bound to its stream."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def seal(self, target: Target, *, tenant_id: UUID, stream_id: UUID) -> bytes:
        keyset = await self._keyring.keyset(tenant_id)
        text = json.dumps({"url": target.url, "secret": target.secret})
        return keyset.seal(text.encode(), _place(stream_id))

    async def open(self, sealed: bytes, *, tenant_id: UUID, stream_id: UUID) -> Target:
        """Open it; raises Gone `key_destroyed`, Fault for what was sealed for another stream."""
        keyset = await self._keyring.keyset(tenant_id)
        held = json.loads(keyset.open(sealed, _place(stream_id)))
        return Target(held["url"], held["secret"])


def _place(stream_id: UUID) -> bytes:
    return b"audit_stream/" + stream_id.bytes


class StreamService:
    """Streams of the session's tenant. `directories` are the names of those that the installation lets files lie in."""

    def __init__(
        self,
        *,
        session: TenantSession,
        addresses: Addresses,
        seals: TargetSeals,
        directories: Sequence[str],
        audit: AuditService,
        clock: Clock,
    ) -> None:
        self._session = session
        self._addresses = addresses
        self._seals = seals
        self._directories = directories
        self._audit = audit
        self._clock = clock

    async def create(self, new: NewStream) -> tuple[AuditStream, str | None]:
        """Make a stream; gives it and, of a webhook, the secret that signs what it is sent, which is shown this once.

        Raises Invalid `stream_invalid`, `address_invalid`, `address_private`; Conflict `name_taken`; Exhausted
        `stream_limit`.
        """
        self._require(new)
        stream_id, now = new_id(), self._clock.now()
        target = _new_target(new.address) if new.address is not None else None
        sealed = await self._sealed(target, stream_id)
        present = await repository.count_streams(self._session)
        if present >= MAX_STREAMS:
            raise too_many_streams(present)
        size = (await repository.find_extent(self._session)).size
        if new.after is not None and new.after > size:
            raise stream_field("after", f"the log has {size} events")
        stream = AuditStream(
            stream_id=stream_id,
            name=new.name,
            kind=new.kind,
            format=new.format,
            hint=self._hint(new, stream_id),
            directory=new.directory,
            filter=new.filter,
            status=StreamStatus.ACTIVE,
            paused_because=None,
            version=1,
            created_at=now,
            created_by=self._session.scope.actor.id,
            updated_at=now,
            position=size if new.after is None else new.after,
            sent=0,
            attempts=0,
            failing_since=None,
            last_error=None,
            last_sent_at=None,
            next_attempt_at=now,
        )
        if not await repository.insert_stream(self._session, stream, sealed=sealed):
            raise stream_taken(new.name)
        details = {"kind": new.kind.value, "format": new.format.value, "hint": stream.hint, "after": stream.position}
        await self._record("audit_stream.created", stream, details)
        return stream, target.secret if target else None

    async def get(self, stream_id: UUID) -> AuditStream:
        return await self._found(stream_id)

    async def list_streams(self, *, after: UUID | None = None, limit: int = 50) -> list[AuditStream]:
        return await repository.list_streams(self._session, after=after, limit=limit)

    async def lag(self, stream: AuditStream) -> Lag:
        """Tell how far a stream is behind."""
        extent = await repository.find_extent(self._session)
        sent = max(stream.position, extent.erased)
        oldest = await repository.find_oldest_unsent(self._session, sent)
        seconds = (self._clock.now() - oldest).total_seconds() if oldest is not None else 0.0
        return Lag(max(0, extent.size - sent), max(0.0, seconds))

    async def change(
        self, stream_id: UUID, change: StreamChange, *, if_version: int | None
    ) -> tuple[AuditStream, str | None]:
        """Change what is named; gives the stream and, when it got a new one, its secret. Raises as `create` does."""
        now = await self._locked(stream_id, if_version)
        sealed, target, secret = await repository.find_sealed_target(self._session, stream_id), None, None
        if change.address is not None or change.rotate_secret:
            if now.kind is not StreamKind.WEBHOOK or sealed is None:
                raise stream_field("address" if change.address else "rotate_secret", "only webhooks have one")
            held = await self._seals.open(sealed, tenant_id=self._session.scope.tenant_id, stream_id=stream_id)
            target = replace(held, url=change.address or held.url)
            if change.address is not None:
                self._addresses.require(change.address)
            if change.rotate_secret:
                target = _new_target(target.url)
                secret = target.secret
            sealed = await self._sealed(target, stream_id)
        changed = replace(
            now,
            name=now.name if change.name is None else change.name,
            hint=self._addresses.hint(target.url) if target else now.hint,
            format=now.format if change.format is None else change.format,
            filter=now.filter if change.filter is None else change.filter,
        )
        fields = [name for name in ("name", "hint", "format", "filter") if getattr(now, name) != getattr(changed, name)]
        details = {"fields": fields, "address_replaced": change.address is not None, "secret_rotated": bool(secret)}
        written = await self._write(changed, sealed)
        await self._record("audit_stream.changed", written, details)
        return written, secret

    async def pause(self, stream_id: UUID, *, if_version: int | None = None) -> AuditStream:
        """Let it send nothing more. What is on its way may still arrive, and comes again after a resumption."""
        now = await self._locked(stream_id, if_version)
        paused = await self._write_as_it_is(replace(now, status=StreamStatus.PAUSED, paused_because=ASKED))
        await self._record("audit_stream.paused", paused, {"reason": ASKED})
        return paused

    async def resume(self, stream_id: UUID, *, if_version: int | None = None) -> AuditStream:
        """Go on behind the last event that was confirmed, at once; also with one that waits for its next attempt."""
        now = await self._locked(stream_id, if_version)
        resumed = await self._write_as_it_is(_begun(now))
        await self._record("audit_stream.resumed", resumed, {"after": now.position})
        return resumed

    async def replay(self, stream_id: UUID, *, after: int, if_version: int | None = None) -> AuditStream:
        """Send again from behind a place; whether it is paused stays as it is."""
        now = await self._locked(stream_id, if_version)
        size = (await repository.find_extent(self._session)).size
        if after > size:
            raise stream_field("after", f"the log has {size} events")
        again = replace(_begun(now), status=now.status, paused_because=now.paused_because, position=after)
        replayed = await self._write_as_it_is(again)
        await self._record("audit_stream.replayed", replayed, {"after": after, "was": now.position})
        return replayed

    async def remove(self, stream_id: UUID, *, if_version: int | None) -> AuditStream:
        """Remove a stream; what it has written stays where it is."""
        found = await self._locked(stream_id, if_version)
        await repository.delete_stream(self._session, stream_id)
        await self._record("audit_stream.deleted", found, {"kind": found.kind.value, "position": found.position})
        return found

    def _require(self, new: NewStream) -> None:
        webhook, file = new.kind is StreamKind.WEBHOOK, new.kind is StreamKind.FILE
        if webhook != (new.address is not None):
            raise stream_field("address", "webhooks have one, and nothing else has")
        if file != (new.directory is not None):
            raise stream_field("directory", "files have one, and nothing else has")
        if new.address is not None:
            self._addresses.require(new.address)
        if new.directory is not None and new.directory not in self._directories:
            known = ", ".join(sorted(self._directories)) or "none: its operator sets audit.stream_directories"
            raise stream_field("directory", f"names none that this installation has ({known})")

    def _hint(self, new: NewStream, stream_id: UUID) -> str:
        if new.address is not None:
            return self._addresses.hint(new.address)
        name = format_id(Prefix.AUDIT_STREAM, stream_id)
        return f"{new.directory}/…/{name}" if new.directory else f"audit/streams/{name}"

    async def _locked(self, stream_id: UUID, if_version: int | None) -> AuditStream:
        found = await self._found(stream_id, lock=True)
        if if_version is not None and found.version != if_version:
            raise stream_version_mismatch(found.version)
        return found

    async def _found(self, stream_id: UUID, *, lock: bool = False) -> AuditStream:
        found = await repository.find_stream(self._session, stream_id, lock=lock)
        if found is None:
            raise stream_not_found()
        return found

    async def _sealed(self, target: Target | None, stream_id: UUID) -> bytes | None:
        if target is None:
            return None
        return await self._seals.seal(target, tenant_id=self._session.scope.tenant_id, stream_id=stream_id)

    async def _write_as_it_is(self, stream: AuditStream) -> AuditStream:
        return await self._write(stream, await repository.find_sealed_target(self._session, stream.stream_id))

    async def _write(self, stream: AuditStream, sealed: bytes | None) -> AuditStream:
        written = replace(stream, version=stream.version + 1, updated_at=self._clock.now())
        if not await repository.update_stream(self._session, written, sealed=sealed):
            raise stream_taken(stream.name)
        return written

    async def _record(self, action: str, stream: AuditStream, details: Mapping[str, Any]) -> None:
        await record(self._audit, action, stream, details)


def _new_target(url: str) -> Target:
    """Make a target with a new secret of 256 bits to sign with."""
    return Target(url, f"aus_{secrets.token_urlsafe(32)}")


def _begun(stream: AuditStream) -> AuditStream:
    """Forget what has failed."""
    return replace(
        stream,
        status=StreamStatus.ACTIVE,
        paused_because=None,
        attempts=0,
        failing_since=None,
        last_error=None,
        next_attempt_at=stream.created_at,
    )


async def record(audit: AuditService, action: str, stream: AuditStream, details: Mapping[str, Any]) -> None:
    await audit.record(
        action,
        resource_type="audit_stream",
        resource_id=format_id(Prefix.AUDIT_STREAM, stream.stream_id),
        details={"name": stream.name, **details},
    )
