"""What the attempts of one worker process share."""

from dataclasses import dataclass

from tenantry.capabilities.sandboxes.service.content import JobContent
from tenantry.capabilities.sandboxes.service.images import ImageLibrary
from tenantry.capabilities.sandboxes.service.job_secrets import SecretOpener
from tenantry.capabilities.sandboxes.service.live_room import LiveRoom
from tenantry.capabilities.sandboxes.service.queue_relay import QueueRelay
from tenantry.engines.jail.backend import Backend
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.settings import JobSettings


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every attempt of a worker process works with."""

    cell: Cell
    jail: Backend
    content: JobContent
    secrets: SecretOpener
    library: ImageLibrary
    relay: QueueRelay
    settings: JobSettings
    clock: Clock
    room: LiveRoom | None = None
    """Of a worker that lets sandboxes live."""
