"""Sends what is due: claim and commit, send, note and commit. What a crash leaves is due again when its lease ends."""

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.audit.types import Outcome
from tenantry.capabilities.notifications import repository
from tenantry.capabilities.notifications.errors import NotSentError
from tenantry.capabilities.notifications.ports import Sender, Surroundings
from tenantry.capabilities.notifications.service.addresses import AddressBook
from tenantry.capabilities.notifications.service.composing import compose
from tenantry.capabilities.notifications.types import (
    MAX_ATTEMPTS,
    Address,
    ChannelKind,
    ChannelStatus,
    Delivery,
    DeliveryStatus,
    Due,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import Invalid, TenantryError, Unavailable
from tenantry.foundation.ids import Prefix, format_id
from tenantry.foundation.scope import SYSTEM, TenantScope

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

SEND_SECONDS: Final = 30.0
_LEASE: Final = timedelta(seconds=120)
_FIRST_RETRY_SECONDS: Final = 10.0
_FACTOR: Final = 3.0
PER_LANE: Final = 2
PER_TENANT: Final = 8

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Target:
    kind: ChannelKind
    sealed: bytes | None
    email: str | None


class Deliveries:
    """Of one cell. `senders` by kind; a kind without one is `not_configured` here, and tried again."""

    def __init__(
        self,
        *,
        cell: Cell,
        addresses: AddressBook,
        surroundings: Surroundings,
        senders: Mapping[ChannelKind, Sender],
        clock: Clock,
    ) -> None:
        self._cell = cell
        self._addresses = addresses
        self._surroundings = surroundings
        self._senders = senders
        self._clock = clock

    async def send(self, tenant_id: UUID, delivery_id: UUID) -> bool:
        """Try a delivery once; False when it was not to be had: another's, or ended.

        Raises Denied or Unavailable for a tenant that is suspended, moving or away: nothing was counted then.
        """
        scope = TenantScope(tenant_id=tenant_id, region=self._cell.region, actor=SYSTEM)
        now = self._clock.now()
        async with self._cell.session(scope) as session:
            delivery = await repository.claim_delivery(session, delivery_id, now=now, until=now + _LEASE)
            if delivery is None:
                return False
            target = await self._target(session, delivery)
        failure: NotSentError | None = None
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._try(delivery, target, tenant_id=tenant_id)
        except TimeoutError:
            failure = NotSentError("timed_out")
        except NotSentError as error:
            failure = error
        await self._note(scope, delivery, failure)
        return True

    async def _target(self, session: TenantSession, delivery: Delivery) -> _Target | None:
        """Read where a delivery goes; None when nobody is there any more."""
        if delivery.channel_id is not None:
            found = await repository.find_address(session, delivery.channel_id)
            return _Target(found[0], found[2], None) if found and found[1] is ChannelStatus.ACTIVE else None
        if delivery.recipient_id is None:
            return None
        email = await self._surroundings.email_of(session, delivery.recipient_id)
        return _Target(ChannelKind.EMAIL, None, email) if email else None

    async def _try(self, delivery: Delivery, target: _Target | None, *, tenant_id: UUID) -> None:
        if delivery.attempts > MAX_ATTEMPTS:  # none of them lived to tell
            raise NotSentError("sender_lost", lasting=True)
        if target is None:
            raise NotSentError("recipient_gone", lasting=True)
        sender = self._senders.get(target.kind)
        if sender is None:
            raise NotSentError("not_configured")
        try:
            address = Address(target.email or "")
            if target.sealed is not None and delivery.channel_id is not None:
                address = await self._addresses.open(target.sealed, tenant_id=tenant_id, channel_id=delivery.channel_id)
            # Once more: what was imported, or written before the rules were stricter, is no better for lying here.
            self._addresses.require(target.kind, address.text)
        except Invalid as error:
            raise NotSentError(error.code, lasting=True) from None
        except Unavailable as error:
            raise NotSentError(error.code) from None
        except TenantryError as error:
            raise NotSentError(error.code, lasting=True) from None
        await sender.send(address, compose(delivery, tenant_id=tenant_id))

    async def _note(self, scope: TenantScope, delivery: Delivery, failure: NotSentError | None) -> None:
        now = self._clock.now()
        if delivery.workspace_id is not None:
            scope = scope.in_workspace(delivery.workspace_id)
        name = format_id(Prefix.DELIVERY, delivery.delivery_id)
        # Lifecycle: what was sent is noted, also when its tenant was suspended meanwhile.
        async with self._cell.session(scope, lifecycle=True) as session:
            if failure is not None and not failure.lasting and delivery.attempts < MAX_ATTEMPTS:
                at = now + retry_after(delivery.attempts)
                await repository.note_retry(session, delivery, error=failure.code, at=at)
                _log.info("notification.retry", delivery=name, code=failure.code, attempts=delivery.attempts)
                return
            status = DeliveryStatus.FAILED if failure else DeliveryStatus.SENT
            ended = await repository.note_ended(
                session,
                delivery,
                status=status,
                error=failure.code if failure else None,
                sent_at=None if failure else now,
            )
            if ended:
                await self._record(session, delivery, failure)

    async def _record(self, session: TenantSession, delivery: Delivery, failure: NotSentError | None) -> None:
        audit = AuditService(session=session, clock=self._clock)
        channel = delivery.channel_id
        details = {
            "topic": delivery.topic,
            "attempts": delivery.attempts,
            "channel": format_id(Prefix.NOTIFICATION_CHANNEL, channel) if channel else None,
            "recipient": format_id(Prefix.USER, delivery.recipient_id) if delivery.recipient_id else None,
        }
        resource_id = format_id(Prefix.DELIVERY, delivery.delivery_id)
        if failure is None:
            await audit.record(
                "notification.sent", resource_type="notification", resource_id=resource_id, details=details
            )
            return
        await audit.record(
            "notification.failed",
            resource_type="notification",
            resource_id=resource_id,
            outcome=Outcome.ERROR,
            reason=failure.code,
            details=details,
        )


def retry_after(attempts: int) -> timedelta:
    """Tell how long to wait after the attempt of this number: 10 s, thrice as long each time, a fifth more or less.

    Eight attempts take about three hours.
    """
    seconds = _FIRST_RETRY_SECONDS * _FACTOR ** (attempts - 1)
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - to spread retries, not a secret


async def list_due(
    connection: "PoolConnectionProxy[asyncpg.Record]",
    *,
    now: datetime,
    limit: int,
    resting: Collection[UUID],
    running: Collection[Due],
) -> list[Due]:
    """List what may begin now beside what is running, as the dispatcher: neither lane nor tenant gets it all."""
    lanes, tenants = [due.lane for due in running], [due.tenant_id for due in running]
    full_lanes = {lane for lane in lanes if lanes.count(lane) >= PER_LANE}
    full_tenants = {tenant for tenant in tenants if tenants.count(tenant) >= PER_TENANT}
    return await repository.list_due(
        connection,
        now=now,
        limit=limit,
        per_lane=PER_LANE,
        per_tenant=PER_TENANT,
        without_tenants={*full_tenants, *resting},
        without_lanes=full_lanes,
        without=[due.delivery_id for due in running],
    )


class NoticeArrival:
    """The `Arrival` port of tenants for notices."""

    async def arrive(self, session: TenantSession) -> None:
        """Fail what waited when the archive was made: it is sent where the tenant came from."""
        await repository.end_pending(session, error="tenant_imported")
