"""Evidence begins with the work it is of, and is told of its end, each in the transaction of the work itself."""

from datetime import datetime, timedelta
from typing import Final

from tenantry.capabilities.evidence import repository
from tenantry.capabilities.evidence.types import Subject
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.session import TenantSession

_SIGNED_AFTER: Final = timedelta(seconds=1.2)
"""By then a checkpoint covers an event: see `capabilities/audit`."""


async def begin_evidence(session: TenantSession, subject: Subject, *, clock: Clock) -> None:
    """Begin evidence of work that has just been accepted."""
    await repository.note_subject(session, subject, now=clock.now(), ended_at=None, due_at=None)


async def end_evidence(session: TenantSession, subject: Subject, *, at: datetime) -> None:
    """Note that it has ended, which is when it is to be locked. Repeating it changes nothing.

    Work that was accepted before there was evidence begins it here, without what policies said.
    """
    await repository.note_subject(session, subject, now=at, ended_at=at, due_at=at + _SIGNED_AFTER)
