"""Seals and signs what is recorded: each tenant's events, then its log, then the log of its region."""

from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from typing import Final
from uuid import UUID

from tenantry.capabilities.audit.errors import WitnessSilent
from tenantry.capabilities.audit.service import (
    Notary,
    RegionLogs,
    Witness,
    seal,
    sign_grown,
)
from tenantry.entrypoints.erasing import erasing_loops
from tenantry.entrypoints.forgetting import ForgettingRound, forget_old
from tenantry.entrypoints.loops import forever
from tenantry.entrypoints.rounds import Rounds
from tenantry.entrypoints.runtime import Parts
from tenantry.entrypoints.trails import make_witness
from tenantry.foundation.clock import Clock
from tenantry.foundation.database.cells import Cell
from tenantry.foundation.database.places import PLACE_NEWS
from tenantry.foundation.database.platform_session import platform_session

_SEAL_SECONDS: Final = 0.08
"""With the work of a round a tenth of a second, in which what comes is sealed together."""
_SEALED_AT_ONCE: Final = 1000
_SIGN_SECONDS: Final = 1.0
_DAMAGED_SECONDS: Final = 60.0
_THIN_ROUNDS: Final = 600
_FORGET_SECONDS: Final = 3600.0
_PERSONS_SECONDS: Final = 1.0


def make_region_logs(parts: Parts) -> RegionLogs:
    """Open the regions' own logs, as the sealer; connections are made at the first use and closed with the parts."""
    opened, notaries = {}, parts.notaries
    for region in notaries:
        dsn = parts.addresses.cells[region].sealer
        rounds = Rounds(dsn, region=region, directory=parts.directory, clock=parts.clock, lock_seconds=None)
        parts.stack.push_async_callback(rounds.close)
        opened[region] = rounds.shared
    witnesses = {region: make_witness(parts.settings, region, parts.clock) for region in notaries}
    return RegionLogs(opened, notaries=notaries, witnesses=witnesses)


def sealing_loops(
    cell: Cell,
    parts: Parts,
    logs: RegionLogs,
    *,
    tell: Callable[[str], None],
    stack: AsyncExitStack,
) -> list[Coroutine[object, object, None]]:
    """Make the loops of a cell, and begin to hear where there is something to seal; before the cell is started.

    `tell` hears at which places events were sealed.
    """
    dsn = parts.addresses.cells[cell.region].sealer
    sealer, signing = (Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock) for _ in range(2))
    forgetting = Rounds(dsn, region=cell.region, directory=parts.directory, clock=parts.clock, lock_seconds=None)
    persons = ForgettingRound(parts, cell)
    for rounds in (sealer, signing, forgetting, persons):
        stack.push_async_callback(rounds.close)
    cell.link.subscribe(PLACE_NEWS, sealer.stir)
    witness = make_witness(parts.settings, cell.region, parts.clock)
    days = parts.settings.audit.personal_days
    forget = partial(forget_old, forgetting, cell, days=days, clock=parts.clock)
    sign = partial(sign_all, signing, notary=parts.notaries[cell.region], witness=witness, logs=logs)
    damaged = Damaged(parts.clock)
    thin = cycle((True, *(False for _ in range(_THIN_ROUNDS - 1))))
    return [
        forever("seal", partial(seal_all, sealer, damaged, signing.stir, tell), seconds=_SEAL_SECONDS),
        forever("checkpoints", lambda: sign(thin=next(thin)), seconds=_SIGN_SECONDS),
        forever("forget-persons", persons.pass_due, seconds=_PERSONS_SECONDS),
        *erasing_loops(cell, parts, stack=stack),
        *([forever("forget", forget, seconds=_FORGET_SECONDS)] if days else []),
    ]


class Damaged:
    """Tenants whose stored trees are damaged, by place: for a minute they are passed over without another look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], dict[UUID, float]] = {}

    def at(self, place: str, schema: str) -> set[UUID]:
        now = self._clock.monotonic()
        known = {tenant: until for tenant, until in self._until.pop((place, schema), {}).items() if until > now}
        if known:
            self._until[place, schema] = known
        return set(known)

    def note(self, place: str, schema: str, tenants: Collection[UUID]) -> None:
        """Remember these; how long counts from when each was found."""
        until = self._clock.monotonic() + _DAMAGED_SECONDS
        for tenant_id in tenants:
            self._until.setdefault((place, schema), {}).setdefault(tenant_id, until)


async def seal_all(rounds: Rounds, damaged: Damaged, *tell: Callable[[str], None]) -> None:
    """Seal what waits anywhere; who signs, and who follows, is told where there will be something for them."""
    async for place, pool, schema in rounds.waiting("audit_unsealed"):
        with rounds.attempt(place, schema):
            sealed, passed_over = _SEALED_AT_ONCE, damaged.at(place, schema)
            while sealed == _SEALED_AT_ONCE:
                async with platform_session(pool, schema=schema) as connection:
                    sealed = await seal(connection, limit=_SEALED_AT_ONCE, passed_over=passed_over)
                damaged.note(place, schema, passed_over)
        for each in tell:
            each(place)


async def sign_all(rounds: Rounds, *, notary: Notary, witness: Witness, logs: RegionLogs, thin: bool) -> None:
    """Sign what has grown in a region: the logs of its tenants, each once, then its own."""
    append = partial(logs.append, notary.region)
    async for place, pool, schema in rounds.waiting("audit_unsigned"):
        # What the witness does not take it takes from nobody.
        with rounds.attempt(place, schema, but=(WitnessSilent,)):
            after: UUID | None = None
            while True:
                async with platform_session(pool, schema=schema) as connection:
                    after = await sign_grown(
                        connection, notary=notary, witness=witness, append=append, thin=thin, after=after
                    )
                if after is None:
                    break
    await logs.sign(notary.region, thin=thin)
