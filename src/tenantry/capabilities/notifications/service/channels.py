"""Channels of one place, and what was delivered there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from tenantry.capabilities.audit.service import AuditService
from tenantry.capabilities.notifications import repository
from tenantry.capabilities.notifications.errors import (
    channel_disabled,
    channel_not_found,
    channel_taken,
    channel_version_mismatch,
    delivery_not_found,
    email_not_configured,
    secret_not_for_kind,
    too_many_channels,
    topic_unknown,
)
from tenantry.capabilities.notifications.service.addresses import AddressBook, hint_of, new_address
from tenantry.capabilities.notifications.service.composing import noticed
from tenantry.capabilities.notifications.types import (
    MAX_CHANNELS,
    SUBSCRIPTIONS,
    TEST_TOPIC,
    Address,
    Channel,
    ChannelKind,
    ChannelStatus,
    Delivery,
    Notice,
)
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession
from tenantry.foundation.ids import Prefix, format_id, new_id
from tenantry.foundation.outbox import CHANNEL as OUTBOX_NEWS

_WAKE: Final = f"notify {OUTBOX_NEWS}"
"""Whoever carries the outbox sends what is due, too."""


@dataclass(frozen=True, slots=True, repr=False)
class ChannelChange:
    """What of a channel changes; None: as it is. `rotate_secret` gives a webhook another secret at once."""

    name: str | None = None
    address: str | None = None
    topics: Sequence[str] | None = None
    status: ChannelStatus | None = None
    rotate_secret: bool = False


class ChannelService:
    """Channels and deliveries of one workspace, or with `workspace_id` None of the tenant itself."""

    def __init__(
        self,
        *,
        session: TenantSession,
        workspace_id: UUID | None,
        addresses: AddressBook,
        by_email: bool,
        audit: AuditService,
        clock: Clock,
    ) -> None:
        self._session = session
        self._workspace_id = workspace_id
        self._addresses = addresses
        self._by_email = by_email
        self._audit = audit
        self._clock = clock

    async def create(
        self, *, name: str, kind: ChannelKind, address: str, topics: Sequence[str]
    ) -> tuple[Channel, str | None]:
        """Make a channel; gives it and its signing secret, which nobody can read again.

        Raises Invalid `address_invalid`, `address_private`, `topic_unknown`; Conflict `name_taken`,
        `email_not_configured`; Exhausted `channel_limit`.
        """
        self._addresses.require(kind, address)
        if kind is ChannelKind.EMAIL and not self._by_email:
            raise email_not_configured()
        now, made = self._clock.now(), new_address(kind, address)
        channel = Channel(
            channel_id=new_id(),
            workspace_id=self._workspace_id,
            name=name,
            kind=kind,
            hint=hint_of(kind, address),
            topics=_known(topics),
            status=ChannelStatus.ACTIVE,
            version=1,
            created_at=now,
            created_by=self._session.scope.actor.id,
            updated_at=now,
        )
        sealed = await self._sealed(made, channel.channel_id)
        present = await repository.count_channels(self._session, workspace_id=self._workspace_id)
        if present >= MAX_CHANNELS:
            raise too_many_channels(present)
        if not await repository.insert_channel(self._session, channel, sealed=sealed):
            raise channel_taken(name)
        details = {"kind": kind.value, "topics": list(channel.topics), "hint": channel.hint}
        await self._record("notification_channel.created", channel, details)
        return channel, made.secret

    async def get(self, channel_id: UUID) -> Channel:
        return await self._found(channel_id)

    async def list_channels(self, *, after: UUID | None = None, limit: int = 50) -> list[Channel]:
        return await repository.list_channels(self._session, workspace_id=self._workspace_id, after=after, limit=limit)

    async def change(
        self, channel_id: UUID, change: ChannelChange, *, if_version: int | None
    ) -> tuple[Channel, str | None]:
        """Change what is named; gives the channel and, when it got a new one, its secret. Raises as `create` does."""
        now = await self._found(channel_id, lock=True)
        if if_version is not None and now.version != if_version:
            raise channel_version_mismatch(now.version)
        address = await self._address_of(now)
        if change.rotate_secret:
            if now.kind is not ChannelKind.WEBHOOK:
                raise secret_not_for_kind()
            address = new_address(now.kind, address.text)
        if change.address is not None:
            self._addresses.require(now.kind, change.address)
            address = Address(change.address, address.secret)
        changed = replace(
            now,
            name=now.name if change.name is None else change.name,
            hint=hint_of(now.kind, address.text),
            topics=now.topics if change.topics is None else _known(change.topics),
            status=now.status if change.status is None else change.status,
            version=now.version + 1,
            updated_at=self._clock.now(),
        )
        if not await repository.update_channel(self._session, changed, sealed=await self._sealed(address, channel_id)):
            raise channel_taken(changed.name)
        details = {
            "fields": [
                name for name in ("name", "hint", "topics", "status") if getattr(now, name) != getattr(changed, name)
            ],
            "address_replaced": change.address is not None,
            "secret_rotated": change.rotate_secret,
        }
        await self._record("notification_channel.changed", changed, details)
        return changed, address.secret if change.rotate_secret else None

    async def remove(self, channel_id: UUID, *, if_version: int | None) -> Channel:
        """Remove a channel and its deliveries; what is on its way may still arrive."""
        found = await self._found(channel_id, lock=True)
        if if_version is not None and found.version != if_version:
            raise channel_version_mismatch(found.version)
        await repository.delete_channel(self._session, channel_id)
        await self._record("notification_channel.removed", found, {"kind": found.kind.value})
        return found

    async def test(self, channel_id: UUID) -> Delivery:
        """Have a notice sent that says so; raises Conflict `channel_disabled`."""
        channel = await self._found(channel_id)
        if channel.status is not ChannelStatus.ACTIVE:
            raise channel_disabled()
        now, delivery_id = self._clock.now(), new_id()
        await repository.insert_one(
            self._session,
            event_id=new_id(),
            topic=TEST_TOPIC,
            workspace_id=self._workspace_id,
            channel_id=channel_id,
            delivery_id=delivery_id,
            notice=noticed(Notice(topic=TEST_TOPIC, occurred_at=now, workspace_id=self._workspace_id)),
            now=now,
        )
        await self._session.execute(_WAKE)
        await self._record(
            "notification_channel.tested", channel, {"delivery": format_id(Prefix.DELIVERY, delivery_id)}
        )
        return await self.get_delivery(delivery_id)

    async def get_delivery(self, delivery_id: UUID) -> Delivery:
        found = await repository.find_delivery(self._session, delivery_id, workspace_id=self._workspace_id)
        if found is None:
            raise delivery_not_found()
        return found

    async def list_deliveries(self, *, before: UUID | None = None, limit: int = 50) -> list[Delivery]:
        """Newest first."""
        return await repository.list_deliveries(
            self._session, workspace_id=self._workspace_id, before=before, limit=limit
        )

    async def _found(self, channel_id: UUID, *, lock: bool = False) -> Channel:
        found = await repository.find_channel(self._session, channel_id, workspace_id=self._workspace_id, lock=lock)
        if found is None:
            raise channel_not_found()
        return found

    async def _address_of(self, channel: Channel) -> Address:
        found = await repository.find_address(self._session, channel.channel_id)
        if found is None:
            raise channel_not_found()
        tenant_id = self._session.scope.tenant_id
        return await self._addresses.open(found[2], tenant_id=tenant_id, channel_id=channel.channel_id)

    async def _sealed(self, address: Address, channel_id: UUID) -> bytes:
        return await self._addresses.seal(address, tenant_id=self._session.scope.tenant_id, channel_id=channel_id)

    async def _record(self, action: str, channel: Channel, details: Mapping[str, Any]) -> None:
        await self._audit.record(
            action,
            resource_type="notification_channel",
            resource_id=format_id(Prefix.NOTIFICATION_CHANNEL, channel.channel_id),
            details=details,
        )


def _known(topics: Sequence[str]) -> tuple[str, ...]:
    for topic in topics:
        if topic not in SUBSCRIPTIONS:
            raise topic_unknown(topic)
    return tuple(dict.fromkeys(topics))
