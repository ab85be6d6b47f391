"""Carries news of a cell's outboxes to `notifications`, and sends what is due there: one loop a cell and server.

It is not the relay: a tenant that cannot be told just now must not keep a suspension from reaching another's sandboxes.
"""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from tenantry.capabilities.access.service import GRANT_KIND, GrantFacts
from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.identity.service import IdentityService, KeyHasher
from tenantry.capabilities.identity.types import PrincipalStatus
from tenantry.capabilities.notifications.adapters.chat import ChatSender
from tenantry.capabilities.notifications.adapters.email import EmailSender, SmtpServer
from tenantry.capabilities.notifications.adapters.resolving import Resolver
from tenantry.capabilities.notifications.adapters.webhook import WebhookSender
from tenantry.capabilities.notifications.ports import Sender
from tenantry.capabilities.notifications.service import Announcer, Deliveries, list_due
from tenantry.capabilities.notifications.types import TOPICS, ChannelKind, Due
from tenantry.capabilities.tenants.service import Directory, WorkspaceService
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.foundation import outbox
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.platform_session import platform_session
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.errors import NotFound, TenantryError
from tenantry.foundation.notification_settings import NotificationSettings

if TYPE_CHECKING:
    from tenantry.foundation.database.pool import Pool

_LOOK_SECONDS: Final = 2.0
"""A look without news finds what is to be tried again, and mends what was lost."""
_AT_ONCE: Final = 32
_REST_SECONDS: Final = 15.0
"""How long a tenant that is suspended or moving, or whose database is away, is left alone."""

_log = structlog.get_logger(__name__)


class KnownNames:
    """The `Surroundings` port of notifications."""

    def __init__(self, *, directory: Directory, hasher: KeyHasher, clock: Clock) -> None:
        self._directory = directory
        self._hasher = hasher
        self._clock = clock

    async def workspace_name(self, session: TenantSession, workspace_id: UUID) -> str | None:
        audit = AuditService(session=session, clock=self._clock)
        workspaces = WorkspaceService(session=session, directory=self._directory, audit=audit, clock=self._clock)
        try:
            return (await workspaces.get(workspace_id)).name
        except NotFound:
            return None

    async def email_of(self, session: TenantSession, user_id: UUID) -> str | None:
        audit = AuditService(session=session, clock=self._clock)
        identity = IdentityService(session=session, audit=audit, hasher=self._hasher, clock=self._clock)
        user = await identity.find_user(user_id)
        return user.email if user is not None and user.status is PrincipalStatus.ACTIVE else None


class Senders:
    """What sends, by kind of channel; of one process."""

    def __init__(self, settings: NotificationSettings, *, clock: Clock) -> None:
        private = settings.allow_private_addresses
        self._resolver = Resolver(allow_private=private)
        self._webhooks = WebhookSender(self._resolver, clock=clock)
        self._chats = ChatSender(allow_private=private)
        self.by_kind: dict[ChannelKind, Sender] = {
            ChannelKind.WEBHOOK: self._webhooks,
            ChannelKind.APPRISE: self._chats,
        }
        self._email: EmailSender | None = None
        if settings.smtp_url is not None and settings.sender is not None:
            server = SmtpServer(settings.smtp_url.get_secret_value(), settings.sender)
            self._email = self.by_kind[ChannelKind.EMAIL] = EmailSender(server, clock=clock)

    async def close(self) -> None:
        await self._webhooks.close()
        await self._chats.close()
        self._resolver.close()
        if self._email is not None:
            self._email.close()


class NoticeLoop:
    """Make it before its cell is started: it listens. `wake` it at a commit that left news."""

    def __init__(self, parts: Parts, cell: Cell, *, senders: Senders | None = None) -> None:
        settings, clock = parts.settings.notifications, parts.clock
        dsn = parts.addresses.cells[cell.region].dispatcher
        names = KnownNames(directory=parts.directory, hasher=KeyHasher(parts.secrets.pepper), clock=clock)
        self._clock = clock
        self._rounds = Rounds(dsn, region=cell.region, directory=parts.directory, clock=clock, look_seconds=0.0)
        self._senders = senders or Senders(settings, clock=clock)
        self._announcer = Announcer(
            cell=cell,
            surroundings=names,
            descriptions={GRANT_KIND: GrantFacts()},
            by_email=ChannelKind.EMAIL in self._senders.by_kind,
            keep=timedelta(days=settings.keep_days),
            clock=clock,
        )
        self._deliveries = Deliveries(
            cell=cell,
            addresses=parts.address_book(cell.region),
            surroundings=names,
            senders=self._senders.by_kind,
            clock=clock,
        )
        self._running: dict[Due, asyncio.Task[None]] = {}
        self._resting: dict[UUID, float] = {}
        self._wake = asyncio.Event()
        cell.link.subscribe(PLACE_NEWS, self._rounds.stir)
        cell.link.subscribe(PLACE_NEWS, self.wake)
        cell.link.subscribe(outbox.CHANNEL, self.wake)
        cell.link.on_reconnect(self.wake)

    def wake(self, _payload: str = "") -> None:
        self._wake.set()

    async def run(self) -> None:
        await forever("notices", self.look, seconds=_LOOK_SECONDS, wake=self._wake)

    async def look(self) -> None:
        """Announce all that is new, and begin as much of what is due as there is room for."""
        async for place, pool, schema in self._rounds.waiting("outbox", "notification_deliveries"):
            with self._rounds.attempt(place, schema):
                await self._announce(pool, schema)
                await self._begin(place, pool, schema)

    async def settled(self) -> None:
        """Wait until nothing is being sent."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self) -> None:
        """Give up what is being sent, which is due again, and close what was opened."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._senders.close()
        await self._rounds.close()

    async def _announce(self, pool: "Pool", schema: str) -> None:
        """Deliver the events of one place."""
        while True:
            async with platform_session(pool, schema=schema) as connection:
                events = await outbox.take(connection, topics=TOPICS, without=self._rested())
                for event in events:
                    if event.tenant_id in self._resting:
                        continue
                    try:
                        await self._announcer.announce(event)
                    except Exception as error:  # noqa: BLE001 - one tenant's trouble must not silence the others
                        self._rest(event.tenant_id, error)
                        continue
                    await outbox.settle(connection, event)
            if not events:
                return

    async def _begin(self, place: str, pool: "Pool", schema: str) -> None:
        while (room := _AT_ONCE - len(self._running)) > 0:
            async with platform_session(pool, schema=schema) as connection:
                found = await list_due(
                    connection,
                    now=self._clock.now(),
                    limit=room,
                    resting=self._rested(),
                    running=self._running.keys(),
                )
            if not found:
                return
            for due in found:
                self._running[due] = asyncio.create_task(self._send(due, place))

    async def _send(self, due: Due, place: str) -> None:
        try:
            if await self._deliveries.send(due.tenant_id, due.delivery_id):
                self._rounds.stir(place)
                self._wake.set()
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not silence the others
            self._rest(due.tenant_id, error)
        finally:
            del self._running[due]

    def _rest(self, tenant_id: UUID, error: Exception) -> None:
        """Leave a tenant alone for a while."""
        code = error.code if isinstance(error, TenantryError) else type(error).__name__
        _log.warning("notices.tenant_rests", tenant=str(tenant_id), code=code)
        self._resting[tenant_id] = self._clock.monotonic() + _REST_SECONDS

    def _rested(self) -> set[UUID]:
        now = self._clock.monotonic()
        for tenant_id in [tenant_id for tenant_id, until in self._resting.items() if until <= now]:
            del self._resting[tenant_id]
        return set(self._resting)
